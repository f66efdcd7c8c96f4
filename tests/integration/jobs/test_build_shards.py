"""The shards job over a library that changes from run to run: what is decoded, reused, refused, grouped and copied."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
import shard_stages
from build_shards import publish_shards
from pyspark.sql import SparkSession

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.config_file import validate_config
from htcl.errors import HTCLError
from htcl.ingest.catalog import build_catalog
from htcl.plan import plan
from htcl.schemas import REJECTS, SHARDS
from htcl.shards.index import read_index
from htcl.shards.reader import ShardReader
from htcl.shards.work import refused_table
from htcl.split import split_of
from htcl.tables import GrowingTable
from tests.integration.harness import CONCERT


class Library:
    """Audio files, a catalog, and the job that runs over them."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder = spark, folder
        self.root = folder / "audio"
        self.root.mkdir()
        self.rows: dict[str, dict[str, Any]] = {}
        self.settings: dict[str, Any] = {"audio": {"max_reject_share": 0.9}, "shards": {"max_mb": 1.0}}
        (folder / "log.jsonl").write_text("{}\n")

    def add(self, track: str, sound: int | None, **fields: Any) -> None:
        """A track; `sound` is the seed of its noise, None no audio."""
        path = self.root / f"{track}.flac"
        if sound is None:
            path.write_text("404 Not Found\n" * 50)
        else:
            write_noise(path, sound)
        self.rows[track] = {"track_id": track, "title": track, "audio_path": path.name, **fields}

    @property
    def config(self) -> PipelineConfig:
        values = {
            "workspace": str(self.folder / "workspace"),
            "catalog": {"path": str(self.folder / "catalog.jsonl"), "audio_root": str(self.root)},
            "interactions": {"path": str(self.folder / "log.jsonl")},
        }
        return validate_config({**values, **self.settings}, "test")

    def run(self) -> dict[str, Any]:
        """Run the job; its figures. It would not run without some change, so the title of a track changes."""
        first = next(iter(self.rows.values()))
        first["title"] += "!"
        (self.folder / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows.values()))
        config, store = self.config, ArtifactStore(str(self.folder / "workspace"))
        steps = plan(config)
        with store.create(steps["catalog"].recipe) as draft:
            build_catalog(config, draft.path)
        publish_shards(self.spark, config, steps["shards"])
        self.check()
        return dict(store.manifest("shards", steps["shards"].key)["figures"])

    def index(self) -> pa.Table:
        """The published index, which the table and the bytes must agree with."""
        store = ArtifactStore(str(self.folder / "workspace"))
        return read_index(store.fetch("shards", plan(self.config)["shards"].key))

    def check(self) -> None:
        index = self.index()
        assert index.equals(
            GrowingTable(self.config.workspace, "shards", SHARDS).read().sort_by("track_id").cast(SHARDS)
        )
        ShardReader(f"{self.config.workspace}/shards", index).read(np.arange(len(index)))  # against the hashes
        assert set(index["track_id"].to_pylist()) | set(self.rejects()) == set(self.rows)

    def rejects(self) -> dict[str, str]:
        table = GrowingTable(self.config.workspace, "rejects", REJECTS, partition_by="source").read().to_pylist()
        return {row["key"]: row["reason"] for row in table if row["source"] == "audio"}

    def rows_of(self) -> dict[str, dict[str, Any]]:
        return {row["track_id"]: row for row in self.index().to_pylist()}

    def shards(self) -> set[str]:
        return {path.name for path in Path(self.config.workspace, "shards").iterdir()}


def write_noise(path: Path, seed: int, seconds: float = 3.0) -> None:
    samples = (3000 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
    frame.sample_rate = 16_000
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=16_000, layout="mono")
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


@pytest.fixture
def library(spark: SparkSession, tmp_path: Path) -> Library:
    return Library(spark, tmp_path)


def counts(figures: dict[str, Any]) -> tuple[int, ...]:
    return tuple(figures[name] for name in ("tried", "decoded", "reused", "kept", "removed"))


def test_only_what_is_new_is_decoded(library: Library) -> None:
    for number in range(20):
        library.add(f"t{number:02d}", number)
    library.add("bad", None)
    assert counts(library.run()) == (21, 20, 0, 0, 0)
    before, version = library.rows_of(), GrowingTable(library.config.workspace, "shards", SHARDS).version()
    assert library.rejects() == {"bad": "not_audio"}
    # Nothing of the audio changed: nothing is opened, nothing committed, and the refused file is still told of.
    assert counts(library.run()) == (0, 0, 0, 20, 0)
    assert GrowingTable(library.config.workspace, "shards", SHARDS).version() == version
    assert library.rejects() == {"bad": "not_audio"}
    # Another time stamp, another name, the same bytes as another track; a new file, a changed one, a removed one.
    os.utime(library.root / "t00.flac", (1, 1))
    (library.root / "t01.flac").rename(library.root / "moved.flac")
    library.rows["t01"]["audio_path"] = "moved.flac"
    library.rows["copy"] = {**library.rows["t02"], "track_id": "copy"}
    library.add("new", 100)
    library.add("t03", 101)
    del library.rows["t04"]
    figures = library.run()
    assert counts(figures) == (2, 2, 3, 16, 1)
    after = library.rows_of()
    for track in ("t00", "t01", "t05"):
        assert place(after[track]) == place(before[track])
    assert place(after["copy"]) == place(before["t02"])
    assert after["t03"]["content_hash"] != before["t03"]["content_hash"]
    assert "t04" not in after
    assert counts(library.run()) == (0, 0, 0, 21, 0)


def songs(library: Library, count: int = 7) -> None:
    """Good songs and a bad file."""
    library.add("bad", None)
    for number in range(count):
        library.add(f"t{number}", (number + 1) // 2, split_group=f"g{number}")  # t1 and t2 sound alike, t3 and t4 …


def stop_in_the_second_round(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the job on four songs a round; the storage fails after the first."""
    decode, left = shard_stages.decode, [shard_stages.decode]

    def failing(*arguments: Any) -> pa.Table:
        if not left:
            raise ConnectionResetError("the storage hung up")
        return left.pop()(*arguments)

    monkeypatch.setattr(shard_stages, "ROUND_SONGS_PER_CORE", 2)
    monkeypatch.setattr(shard_stages, "decode", failing)
    with pytest.raises(ConnectionResetError):
        library.run()
    monkeypatch.setattr(shard_stages, "decode", decode)


def heard(library: Library) -> dict[str, tuple[str, str, str]]:
    return {track: (r["content_hash"], r["split_group"], r["split"]) for track, r in library.rows_of().items()}


def test_what_a_round_brought_is_known_after_a_failure_in_the_next(
    library: Library, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs(library)
    stop_in_the_second_round(library, monkeypatch)
    assert not plan(library.config)["shards"].published
    figures = library.run()
    assert counts(figures) == (4, 4, 0, 3, 0)
    assert (figures["rejects"], figures["duplicates"]) == ({"not_audio": 1}, 6)
    (tmp_path / "other").mkdir()
    undisturbed = Library(spark, tmp_path / "other")
    songs(undisturbed)
    assert counts(undisturbed.run()) == (8, 7, 0, 0, 0)
    assert heard(library) == heard(undisturbed)
    assert counts(library.run()) == (0, 0, 0, 7, 0)


def test_bytes_stay_known_when_a_run_over_a_moved_library_fails(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs(library)
    library.run()
    before = heard(library)
    for track, row in library.rows.items():
        (library.root / row["audio_path"]).rename(library.root / f"moved-{track}.flac")
        row["audio_path"] = f"moved-{track}.flac"
    stop_in_the_second_round(library, monkeypatch)
    assert counts(library.run()) == (0, 0, 4, 3, 0)
    assert heard(library) == before


def test_what_was_decoded_is_known_after_too_many_rejects(library: Library) -> None:
    songs(library)
    library.settings["audio"]["max_reject_share"] = 0.1
    with pytest.raises(HTCLError, match=r"1 of 8 rejected .* raise audio\.max_reject_share"):
        library.run()
    assert library.rejects() == {"bad": "not_audio"}
    library.settings["audio"]["max_reject_share"] = 0.2
    assert counts(library.run()) == (0, 0, 0, 7, 0)


def test_another_run_at_once_is_named_and_doubles_nothing(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    songs(library)
    table, decode = GrowingTable(library.config.workspace, "shards", SHARDS), shard_stages.decode

    def overtaken(*arguments: Any) -> pa.Table:
        monkeypatch.setattr(shard_stages, "decode", decode)
        library.run()
        return decode(*arguments)

    monkeypatch.setattr(shard_stages, "decode", overtaken)
    with pytest.raises(HTCLError, match=r"shards: another run has changed it meanwhile \(version -1 -> .*run the step"):
        library.run()
    assert len(table.read()) == 14
    assert counts(library.run()) == (0, 0, 0, 7, 0)


def place(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["content_hash"], row["file_hash"], row["frames"], row["size"]


def test_a_refused_file_is_tried_again_when_it_has_changed_or_may_have(library: Library) -> None:
    library.add("good", 1)
    library.add("bad", None)
    library.add("gone", 3)
    (library.root / "gone.flac").unlink()
    assert library.run()["rejects"] == {"not_audio": 1, "missing_file": 1}
    assert [row["track_id"] for row in refused_table(library.config.workspace).read().to_pylist()] == ["bad"]
    figures = library.run()
    assert (figures["tried"], figures["rejects"]) == (1, {"not_audio": 1, "missing_file": 1})
    library.add("bad", 2)
    library.add("gone", 3)
    figures = library.run()
    assert (counts(figures), figures["rejects"]) == ((2, 2, 0, 1, 0), {})
    library.add("good", None)  # what was good is refused, and leaves the index
    figures = library.run()
    assert counts(figures) == (1, 0, 0, 2, 1)
    del library.rows["good"]
    figures = library.run()
    assert (figures["rejects"], library.rejects()) == ({}, {})


def test_other_settings_decode_everything_anew(library: Library) -> None:
    for number in range(3):
        library.add(f"t{number}", number)
    library.run()
    library.settings["audio"]["n_mels"] = 64
    assert counts(library.run()) == (3, 3, 0, 0, 0)
    library.settings["audio"]["decode_seconds"] = 30.0
    assert counts(library.run()) == (0, 0, 0, 3, 0)


def test_shards_that_are_lost_are_made_again(library: Library) -> None:
    for number in range(4):
        library.add(f"t{number}", number)
    library.run()
    for name in library.shards():
        Path(library.config.workspace, "shards", name).unlink()
    assert counts(library.run()) == (4, 4, 0, 0, 0)


def test_duplicates_share_a_group_and_its_side(library: Library) -> None:
    sides: dict[str, list[str]] = {"train": [], "test": []}
    for number in range(200):
        side = split_of(f"g{number}", library.config.split)
        sides.setdefault(side, []).append(f"g{number}")
    one, other, third = sides["test"][:3]
    library.add("a", 1, split_group=one)
    library.add("b", 1, split_group=other)
    library.add("c", 2, split_group=other)
    library.add("d", 3, split_group=third)
    figures = library.run()
    assert (figures["duplicates"], figures["merged_groups"]) == (2, 1)
    found = {track: (row["split_group"], row["split"]) for track, row in library.rows_of().items()}
    merged = (min(one, other), "test")
    assert found == {"a": merged, "b": merged, "c": merged, "d": (third, "test")}
    # The same song on the side of training takes all of them there; without it they come back.
    library.add("e", 2, split_group=sides["train"][0])
    library.run()
    assert {row["split"] for track, row in library.rows_of().items() if track != "d"} == {"train"}
    del library.rows["e"]
    library.run()
    assert {track: (row["split_group"], row["split"]) for track, row in library.rows_of().items()} == found


def test_leftovers_are_copied_into_one_shard_and_older_versions_stay_readable(library: Library) -> None:
    library.add("t0", 0)
    library.run()
    before = library.index()
    library.add("t1", 1)
    figures = library.run()
    assert (figures["compacted"], figures["shards"]) == (2, 1)
    assert counts(figures) == (1, 1, 0, 1, 0)
    ShardReader(f"{library.config.workspace}/shards", before).read(np.array([0]))
    there = library.shards()
    assert library.run()["compacted"] == 0
    assert library.shards() == there


def test_a_library_without_a_usable_file_is_an_error_and_nothing_is_published(library: Library) -> None:
    library.settings["audio"]["max_reject_share"] = 1.0
    library.add("bad", None)
    with pytest.raises(HTCLError, match="no file of the catalog could be decoded"):
        library.run()
    assert GrowingTable(library.config.workspace, "shards", SHARDS).version() == -1
    assert not plan(library.config)["shards"].published


@pytest.mark.skipif(not CONCERT.is_dir(), reason="no shared/data/concert beside the checkout")
def test_the_bad_files_of_the_concert_get_the_reasons_of_their_list(library: Library) -> None:
    entries = [json.loads(line) for line in (CONCERT / "broken" / "broken_catalog.jsonl").read_text().splitlines()]
    shutil.copytree(CONCERT / "broken", library.root / "broken")
    library.rows = {entry["track_id"]: entry for entry in entries}
    library.settings["audio"]["max_reject_share"] = 0.99
    figures = library.run()
    clipped = [entry["track_id"] for entry in entries if entry["expected"] == "clipped"]
    assert library.rejects() == {e["track_id"]: e["expected"] for e in entries if e["expected"] != "clipped"}
    assert library.index()["track_id"].to_pylist() == clipped
    assert figures["warnings"]["clipped"] == len(clipped)
    rejects = GrowingTable(library.config.workspace, "rejects", REJECTS, partition_by="source").read().to_pylist()
    for row in rejects:
        assert row["detail"].startswith(f"{library.rows[row['key']]['audio_path']}: ")
