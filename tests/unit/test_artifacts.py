import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from htcl import artifacts, storage
from htcl.artifacts import MANIFEST, ArtifactStore, Recipe
from htcl.errors import HTCLError, PassingError
from htcl.parts import write_part

RECIPE = Recipe("model", 1, {"size": 3}, {"data": "abc"})


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return ArtifactStore(str(tmp_path / "work") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def make(store, content=b"weights", recipe=RECIPE):
    with store.create(recipe) as draft:
        (draft.path / "deep").mkdir()
        (draft.path / "deep" / "weights").write_bytes(content)
        draft.figures["songs"] = 7
        draft.tables["embeddings"] = 4
    return store.fetch(recipe.kind, recipe.key)


def files(store):
    fs, path = storage.filesystem(store.workspace)
    return fs.find(path)


def test_nothing_is_visible_before_the_block_ends(store):
    with store.create(RECIPE) as draft:
        (draft.path / "weights").write_bytes(b"1")
        assert not store.published("model", RECIPE.key)
        assert store.manifests("model") == []
        with pytest.raises(HTCLError, match="is not published"):
            store.fetch("model", RECIPE.key)
    assert store.published("model", RECIPE.key)


def test_an_exception_leaves_nothing(store, tmp_path):
    with pytest.raises(ZeroDivisionError), store.create(RECIPE) as draft:
        (draft.path / "weights").write_bytes(b"1")
        raise ZeroDivisionError
    assert files(store) == []
    assert not store.published("model", RECIPE.key)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_was_written_is_fetched_with_its_manifest(store):
    folder = make(store)
    assert (folder / "deep" / "weights").read_bytes() == b"weights"
    manifest = store.manifest("model", RECIPE.key)
    assert manifest == json.loads((folder / MANIFEST).read_bytes())
    assert manifest["key"] == RECIPE.key
    assert (manifest["section"], manifest["inputs"]) == (RECIPE.section, RECIPE.inputs)
    assert (manifest["figures"], manifest["tables"]) == ({"songs": 7}, {"embeddings": 4})
    assert manifest["files"] == {"deep/weights": 7}


def test_what_was_published_first_stays(store):
    make(store, b"first")
    assert (make(store, b"other") / "deep" / "weights").read_bytes() == b"first"
    assert len(store.manifests("model")) == 1


def test_two_makers_at_once_leave_one_whole_artifact(tmp_path):
    store = ArtifactStore(str(tmp_path))
    barrier = threading.Barrier(2, timeout=60)
    errors = []

    def maker(content):
        try:
            with store.create(RECIPE) as draft:
                for name in ("a", "b"):
                    (draft.path / name).write_text(content)
                barrier.wait()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=maker, args=(content,)) for content in "12"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folder = store.fetch("model", RECIPE.key)
    assert not errors
    assert (folder / "a").read_text() == (folder / "b").read_text()
    assert [f.name for f in folder.parent.iterdir()] == [RECIPE.key]


def test_manifests_come_oldest_first(store):
    recipes = [Recipe("model", version, {}, {}) for version in range(4)]
    for recipe in recipes:
        make(store, recipe=recipe)
    assert [m["step_version"] for m in store.manifests("model")] == [0, 1, 2, 3]


def test_a_killed_maker_leaves_nothing_visible_and_the_next_one_works(tmp_path):
    script = (
        "import sys, time\n"
        "from htcl.artifacts import ArtifactStore, Recipe\n"
        "with ArtifactStore(sys.argv[1]).create(Recipe('model', 1, {'size': 3}, {'data': 'abc'})) as draft:\n"
        "    (draft.path / 'half').write_text('x')\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    store = ArtifactStore(str(tmp_path))
    assert not store.published("model", RECIPE.key)
    assert store.manifests("model") == []
    assert sorted(f.name for f in make(store).iterdir()) == ["deep", MANIFEST]


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A workspace in object storage; copies go into a folder of their own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return ArtifactStore(f"memory://{uuid.uuid4().hex}")


def publishing(monkeypatch, store, act):
    """Let `act(pipe_file, *arguments)` stand in for the write of a manifest."""
    kind = type(storage.filesystem(store.workspace)[0])
    pipe_file = kind.pipe_file
    monkeypatch.setattr(kind, "pipe_file", lambda *arguments, **options: act(pipe_file, *arguments, **options))


def test_the_manifest_is_written_last_and_without_it_nothing_stays(remote, monkeypatch):
    seen = []

    def fail(pipe_file, fs, path, data, **options):
        seen.extend(name.rpartition("/")[2] for name in files(remote))
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        publishing(patch, remote, fail)
        with pytest.raises(PassingError, match="connection lost"):
            make(remote)
    assert seen == ["weights"]
    assert files(remote) == [] and not remote.published("model", RECIPE.key)
    assert (make(remote) / "deep" / "weights").read_bytes() == b"weights"


def test_a_manifest_that_arrived_counts_though_its_answer_was_lost(remote, monkeypatch):
    def lose(pipe_file, *arguments, **options):
        pipe_file(*arguments, **options)
        raise OSError("connection lost")

    publishing(monkeypatch, remote, lose)
    assert (make(remote) / "deep" / "weights").read_bytes() == b"weights"


def test_an_attempt_that_another_overtook_is_deleted_and_changes_nothing(remote):
    with remote.create(RECIPE) as slow:
        (slow.path / "deep").mkdir()
        (slow.path / "deep" / "weights").write_bytes(b"slower")
        make(remote, b"faster")
    assert (remote.fetch("model", RECIPE.key) / "deep" / "weights").read_bytes() == b"faster"
    assert len(files(remote)) == 2


@pytest.mark.parametrize("where", ["local", "memory"])
def test_of_what_tasks_wrote_only_told_parts_belong_to_the_artifact(where, tmp_path, remote):
    store = ArtifactStore(str(tmp_path / "work")) if where == "local" else remote
    rows = pa.table({"n": [1, 2]})
    with store.create(RECIPE) as draft:
        draft.parts.append(write_part(draft.uri, rows, "pairs"))
        write_part(draft.uri, pa.table({"n": [3]}), "pairs")
        assert not store.published("model", RECIPE.key)
    told = draft.parts[0]
    assert store.manifest("model", RECIPE.key)["files"] == {told.path: told.size}
    folder = store.fetch("model", RECIPE.key)
    assert ds.dataset(folder / "pairs").to_table() == rows
    assert storage.exists(storage.join(store.content("model", RECIPE.key), told.path))


def test_copies_of_another_user_are_not_read(remote, tmp_path, monkeypatch):
    make(remote)
    monkeypatch.setattr("os.getuid", lambda: 12345)
    (tmp_path / "tmp" / "htcl-cache-12345").mkdir()
    with pytest.raises(HTCLError, match="htcl-cache-12345 belongs to another user"):
        remote.fetch("model", RECIPE.key)


def test_many_readers_of_one_host_copy_an_artifact_once(remote, monkeypatch):
    with remote.create(RECIPE) as draft:
        (draft.path / "weights").write_bytes(b"1")
    copied, get_file = [], MemoryFileSystem.get_file

    def slow(self, source, target, **options):
        copied.append(source)
        time.sleep(0.05)
        get_file(self, source, target, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", slow)
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: remote.fetch("model", RECIPE.key), range(4)))) == 1
    assert len(copied) == 1


def test_a_fetch_from_object_storage_is_copied_once_and_anew_after_a_remake(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}")
    folder = make(store, b"first")
    assert folder.is_relative_to(tmp_path)
    fs, path = storage.filesystem(store.uri("model", RECIPE.key))
    with monkeypatch.context() as patch:
        patch.setattr(type(fs), "get_file", None)  # a second copy would fail
        assert store.fetch("model", RECIPE.key) == folder
    fs.rm(path, recursive=True)
    assert (make(store, b"again") / "deep" / "weights").read_bytes() == b"again"


def test_a_damaged_artifact_is_named(tmp_path):
    store = ArtifactStore(str(tmp_path))
    folder = make(store)
    (folder / MANIFEST).write_text("{")
    for read in (lambda: store.manifest("model", RECIPE.key), lambda: store.manifests("model")):
        with pytest.raises(HTCLError, match="is damaged; delete its folder"):
            read()
    (folder / MANIFEST).unlink()
    with pytest.raises(HTCLError, match=r"is damaged: it has no manifest\.json; delete it"):
        make(store)


def test_every_part_of_a_recipe_is_in_its_key():
    others = [
        Recipe("models", 1, {"size": 3}, {"data": "abc"}),
        Recipe("model", 2, {"size": 3}, {"data": "abc"}),
        Recipe("model", 1, {"size": 4}, {"data": "abc"}),
        Recipe("model", 1, {"size": 3}, {"data": "abd"}),
    ]
    assert len({RECIPE.key, *(other.key for other in others)}) == 5
    assert RECIPE.key == Recipe("model", 1, {"size": 3}, {"data": "abc"}).key


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_files_that_are_not_what_was_published_are_named_and_the_way_out_works(store, damage):
    folder = make(store, b"weights" * 9)
    path = folder / "deep" / "weights"
    artifacts._CHECKED.clear()  # as in another process
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"weightS" + b"weights" * 8 if damage == "flip" else b"weights")
    with pytest.raises(HTCLError, match="deep/weights is not what was published; delete that folder and run again"):
        store.fetch("model", RECIPE.key)
    shutil.rmtree(folder)
    assert (make(store, b"weights" * 9) / "deep" / "weights").read_bytes() == b"weights" * 9
