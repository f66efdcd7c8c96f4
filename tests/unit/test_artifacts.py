import json
import os
import signal
import subprocess
import sys
import threading
import uuid

import pytest

from htcl import storage
from htcl.artifacts import MANIFEST, ArtifactStore, Recipe
from htcl.errors import HTCLError

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
    barrier = threading.Barrier(2, timeout=10)
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


def test_the_manifest_is_uploaded_last(monkeypatch):
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}")
    fs, _ = storage.filesystem(store.workspace)
    sent, put_file = [], type(fs).put_file

    def fail_at_manifest(self, source, target, **kwargs):
        sent.append(target.rpartition("/")[2])
        if sent[-1] == MANIFEST:
            raise OSError("connection lost")
        put_file(self, source, target, **kwargs)

    monkeypatch.setattr(type(fs), "put_file", fail_at_manifest)
    with pytest.raises(OSError, match="connection lost"):
        make(store)
    assert sent == ["weights", MANIFEST]
    assert not store.published("model", RECIPE.key)


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
