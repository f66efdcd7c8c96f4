"""Everything on object storage: what is written is seen whole or not at all, by whoever looks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from htcl import storage
from htcl.artifacts import MANIFEST, ArtifactStore, Recipe
from htcl.audio.source import fetch_audio, hash_audio
from htcl.champion import read_champion, switch_champion
from htcl.errors import HTCLError
from htcl.parts import write_part
from htcl.schemas import REJECTS, SHARDS
from htcl.shards.reader import ShardReader
from htcl.shards.writer import ShardWriter
from htcl.tables import GrowingTable, replace_rejects
from tests.s3 import SECRET, object_storage

COUNTS = pa.schema([pa.field("dt", pa.string(), nullable=False), pa.field("n", pa.int64())])
RECIPE = Recipe("model", 1, {"size": 3}, {"data": "abc"})
BUCKET = "music"
MEBI = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with object_storage(BUCKET) as environment:
        yield environment


_folders = count()


@pytest.fixture
def root(server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A folder of the bucket, with a space and an umlaut; copies go into a folder of the test's own."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return f"s3://{BUCKET}/{next(_folders)} ü"


def counts(root: str) -> GrowingTable:
    return GrowingTable(root, "counts", COUNTS, partition_by="dt")


def rows(*values: tuple[str, int]) -> pa.Table:
    return pa.table({"dt": [dt for dt, _ in values], "n": [n for _, n in values]}, schema=COUNTS)


def content(table: GrowingTable, version: int | None = None) -> list[tuple[str, int]]:
    return sorted((row["dt"], row["n"]) for row in table.read(version).to_pylist())


def make(store: ArtifactStore, text: str) -> Path:
    with store.create(RECIPE) as draft:
        (draft.path / "deep").mkdir()
        (draft.path / "deep" / "a b ü").write_text(text)
    return store.fetch(RECIPE.kind, RECIPE.key)


def test_a_file_is_seen_whole_or_not_at_all(root: str) -> None:
    uri = storage.join(root, "deep", "file")
    with storage.open_atomic(uri) as handle:
        handle.write(bytes(60 * MEBI))  # more than one part of an upload
        assert not storage.exists(uri)
    assert len(storage.read_bytes(uri)) == 60 * MEBI
    with pytest.raises(ZeroDivisionError), storage.open_atomic(uri) as handle:
        handle.write(b"half")
        raise ZeroDivisionError
    with storage.local_copy(uri) as path:
        assert path.stat().st_size == 60 * MEBI
    assert storage.list_folder(root) == ["deep"]


def test_listings_hold_the_files_of_one_folder_with_a_tag_of_their_content(root: str) -> None:
    for name in ("log/dt=1/ü 1.csv", "log/b.csv", "log/_SUCCESS", "log2/c.csv"):
        storage.write_bytes(storage.join(root, name), b"1")
    fs, path = storage.filesystem(root)
    for marker in ("log/", "log/dt=1/", "empty/"):  # as consoles and Hadoop leave them
        fs.pipe_file(f"{path}/{marker}", b"")
    before = storage.list_files(f"{root}/log/")
    assert list(before) == ["b.csv", "dt=1/ü 1.csv"] and storage.list_files(f"{root}/log") == before
    assert list(storage.list_files(f"{root}/log/b.csv")) == ["b.csv"]
    assert storage.list_files(f"{root}/empty") == {}
    assert storage.list_folder(f"{root}/log") == ["_SUCCESS", "b.csv", "dt=1"]
    for name in ("lo", "log3"):
        with pytest.raises(HTCLError, match=f"{name} does not exist; check the path in the config"):
            storage.list_files(f"{root}/{name}")
    storage.write_bytes(f"{root}/log/b.csv", b"2")
    after = storage.list_files(f"{root}/log")
    assert [name for name in before if before[name] != after[name]] == ["b.csv"]
    storage.remove_folder(f"{root}/log")
    assert storage.list_folder(root) == ["empty", "log2"]


def test_of_creators_at_once_exactly_one_succeeds(root: str) -> None:
    uri = storage.join(root, "object")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: storage.create_bytes(uri, str(n).encode()), range(8)))
    assert won.count(True) == 1
    assert storage.read_bytes(uri) == str(won.index(True)).encode()


def test_storage_that_cannot_be_reached_is_one_sentence_without_the_secret(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HTCLError, match="s3://no-such-bucket/x does not exist; check the path"):
        storage.list_files("s3://no-such-bucket/x")
    assert SECRET not in str(storage.filesystem(root)[0])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    type(storage.filesystem(root)[0]).clear_instance_cache()
    for act in (storage.exists, storage.list_files, storage.read_bytes):
        with pytest.raises(HTCLError, match="cannot be reached: Unable to locate credentials; check its name"):
            act(root)
    type(storage.filesystem(root)[0]).clear_instance_cache()


def test_audio_is_read_whatever_its_name_and_named_when_storage_refuses(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, (fs, path) = f"{root}/Artist :: Title.flac", storage.filesystem(root)
    fs.pipe_file(f"{path}/Artist :: Title.flac", b"fLaC")
    audio = fetch_audio(uri)
    assert Path(audio.path).read_bytes() == b"fLaC" and audio.file_hash == hash_audio(uri)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    type(fs).clear_instance_cache()
    with pytest.raises(HTCLError, match=r"Artist :: Title\.flac cannot be read: Unable to locate credentials; check"):
        fetch_audio(uri)
    type(fs).clear_instance_cache()


def test_forked_processes_and_threads_reach_it(root: str) -> None:
    """Spark's workers and decoders are forked; a connection of the parent must not be used in the child."""
    storage.write_bytes(storage.join(root, "file"), b"content")
    with get_context("fork").Pool(2) as pool:
        assert pool.map_async(storage.read_bytes, [storage.join(root, "file")] * 4).get(60) == [b"content"] * 4
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(storage.read_bytes, [storage.join(root, "file")] * 8)) == [b"content"] * 8


def test_a_table_is_replaced_by_partitions_and_its_past_stays(root: str) -> None:
    table = counts(root)
    assert table.version() == -1 and content(table) == [] and table.properties() == {}
    table.replace_rows(rows(("a b/ü%:", 1), ("b", 2)))
    base = table.version()
    part = table.write(rows(("b", 3)), "b")
    table.write(rows(("b", 4)), "b")  # of a task that nobody heard of
    assert content(table) == [("a b/ü%:", 1), ("b", 2)]
    table.commit([part], ["b"], base, {"files": "x"})
    assert content(table) == [("a b/ü%:", 1), ("b", 3)] and content(table, 0) == [("a b/ü%:", 1), ("b", 2)]
    assert table.properties() == {"files": "x"}
    for part in table.parts():
        assert len(storage.read_bytes(storage.join(table.uri, part.path))) == part.size
    with pytest.raises(HTCLError, match="another run has changed it meanwhile"):
        table.replace_rows(rows(("b", 5)), ["b"], base)
    table.replace_rows(rows(("a b/ü%:", 6)), ["a b/ü%:"], base)
    assert table.vacuum() == 4  # two replaced, one of nobody, one refused
    assert content(table) == [("a b/ü%:", 6), ("b", 3)]


@pytest.mark.parametrize("first", [True, False], ids=["empty", "filled"])
def test_writers_at_once_lose_nothing(root: str, first: bool) -> None:
    if not first:
        counts(root).replace_rows(rows(("z", 0)))
    names = ["a", "b", "c", "d"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: counts(root).replace_rows(rows((name, 1)), [name]), names))
    assert content(counts(root)) == [(name, 1) for name in names] + ([] if first else [("z", 0)])


def test_rejects_and_champion_switch(root: str) -> None:
    replace_rejects(root, "audio", [{"key": "ü.wav", "reason": "not_audio"}])
    replace_rejects(root, "catalog", [{"key": "t1", "reason": "missing_title"}])
    replace_rejects(root, "audio", [])
    assert GrowingTable(root, "rejects", REJECTS, partition_by="source").read()["key"].to_pylist() == ["t1"]
    assert read_champion(root) is None
    keys = dict.fromkeys(("catalog", "shards", "stage2", "embeddings", "index", "evaluation"), "1")
    for index in ("1", "2"):
        base = read_champion(root)
        assert switch_champion(root, {**keys, "index": index}, "a test", base) == read_champion(root)
    champion = read_champion(root)
    assert champion is not None and champion.index == "2"


def test_an_artifact_is_published_by_its_manifest_and_copied_once(root: str) -> None:
    store = ArtifactStore(f"{root}/")
    assert store.manifests("model") == [] and not store.published("model", RECIPE.key)
    with store.create(RECIPE) as draft:
        draft.parts.append(write_part(draft.uri, pa.table({"n": [1]}), "pairs"))
        write_part(draft.uri, pa.table({"n": [2]}), "pairs")  # of a task that nobody heard of
        (draft.path / "weights").write_text("1")
        assert store.manifests("model") == []
    folder = store.fetch("model", RECIPE.key)
    names = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    assert names == {"weights", draft.parts[0].path, MANIFEST}
    assert storage.read_bytes(f"{store.content('model', RECIPE.key)}/weights") == b"1"
    storage.remove_folder(store.content("model", RECIPE.key))
    assert store.fetch("model", RECIPE.key) == folder  # out of the cache


def test_makers_at_once_publish_one_artifact_whole(root: str) -> None:
    store = ArtifactStore(root)

    def maker(text: str) -> None:
        with store.create(RECIPE) as draft:
            for name in ("a", "b", "c"):
                (draft.path / name).write_text(text)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(maker, "1234"))
    folder = store.fetch("model", RECIPE.key)
    assert len({(folder / name).read_text() for name in ("a", "b", "c")}) == 1
    assert len(storage.list_files(store.uri("model", RECIPE.key))) == 4


def test_a_failed_maker_leaves_nothing(root: str) -> None:
    store = ArtifactStore(root)
    with pytest.raises(ZeroDivisionError), store.create(RECIPE) as draft:
        write_part(draft.uri, pa.table({"n": [1]}))
        raise ZeroDivisionError
    assert storage.list_folder(root) == []


FILES = 500
"""So many that they arrive one after another: the process is killed in their midst."""
KILLED = """
import sys
from htcl.artifacts import ArtifactStore, Recipe
with ArtifactStore(sys.argv[1]).create(Recipe("model", 1, {"size": 3}, {"data": "abc"})) as draft:
    for number in range(int(sys.argv[2])):
        (draft.path / f"weights-{number}").write_bytes(b"half")
    print("publishes", flush=True)
print("published", flush=True)
"""


def test_a_process_killed_as_it_publishes_shows_readers_nothing_and_the_next_one_publishes(
    root: str, tmp_path: Path
) -> None:
    store = ArtifactStore(root)
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, root, str(FILES)],
        env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with killed:
        assert killed.stdout and killed.stdout.readline() == "publishes\n"
        while not storage.exists(root):
            assert killed.poll() is None
        os.kill(killed.pid, signal.SIGKILL)
        assert killed.stdout.read() == ""
    assert killed.returncode == -signal.SIGKILL and 0 < len(storage.list_files(root)) < FILES
    assert not store.published("model", RECIPE.key) and store.manifests("model") == []
    with pytest.raises(HTCLError, match=f"model {RECIPE.key} is not published in {root}; run the pipeline first"):
        store.fetch("model", RECIPE.key)
    folder = make(store, "whole")
    assert {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} == {"deep/a b ü", MANIFEST}


def test_shards_are_read_in_ranges_and_damage_is_named(root: str) -> None:
    writer = ShardWriter(f"{root}/shards", max_bytes=100_000)
    mels = [np.full((n + 10, 128), n, np.float16) for n in range(60)]
    entries = [entry for n, mel in enumerate(mels) for entry in writer.add(f"T{n}", mel)] + writer.close()
    index = pa.Table.from_pylist([vars(entry) for entry in entries])
    assert len(storage.list_folder(f"{root}/shards")) > 2
    found = ShardReader(f"{root}/shards", index).read(np.arange(60))
    assert all(np.array_equal(mel, expected) for mel, expected in zip(found, mels, strict=True))
    assert set(index.column_names) <= set(SHARDS.names)
    storage.write_bytes(f"{root}/shards/{entries[0].shard}", b"short")
    with pytest.raises(HTCLError, match=f"shard {entries[0].shard}: the bytes of T.* are damaged"):
        ShardReader(f"{root}/shards", index).read(np.array([3]))
    storage.remove_folder(f"{root}/shards")
    with pytest.raises(HTCLError, match="lacks a shard of its index"):
        ShardReader(f"{root}/shards", index).read(np.arange(1))
