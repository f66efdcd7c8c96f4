import os
import subprocess
import sys
import uuid

import pytest

from htcl import storage
from htcl.errors import HTCLError


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def test_open_atomic_shows_the_file_only_when_it_is_complete(root):
    uri = storage.join(root, "deep", "file")
    with storage.open_atomic(uri) as handle:
        handle.write(b"half")
        handle.flush()
        assert not storage.exists(uri)
        handle.write(b" and half")
    assert storage.read_bytes(uri) == b"half and half"


def test_open_atomic_keeps_what_was_there_when_the_block_fails(root):
    uri = storage.join(root, "file")
    storage.write_bytes(uri, b"before")
    with pytest.raises(ZeroDivisionError), storage.open_atomic(uri) as handle:
        handle.write(b"half")
        raise ZeroDivisionError
    assert storage.read_bytes(uri) == b"before"
    fs, path = storage.filesystem(root)
    assert [name.rpartition("/")[2] for name in fs.find(path)] == ["file"]


def test_list_files_gives_relative_paths_and_passes_over_hidden_ones(root):
    for name in ("b.csv", "deep/a.csv", ".hidden", "_SUCCESS", "_temporary/c.csv", "deep/.d/e.csv"):
        storage.write_bytes(storage.join(root, name), b"123")
    listed = storage.list_files(root)
    assert list(listed) == ["b.csv", "deep/a.csv"]
    assert all(size == 3 and tag for size, tag in listed.values())
    assert list(storage.list_files(storage.join(root, "b.csv"))) == ["b.csv"]
    everything = [".hidden", "_SUCCESS", "_temporary/c.csv", "b.csv", "deep/.d/e.csv", "deep/a.csv"]
    assert list(storage.list_files(root, hidden=True)) == everything


def test_the_tag_changes_with_the_file(root):
    uri = storage.join(root, "a.csv")
    storage.write_bytes(uri, b"123")
    before = storage.list_files(root)
    assert storage.list_files(root) == before
    storage.write_bytes(uri, b"456")
    assert storage.list_files(root) != before


def test_a_missing_path_is_one_sentence(root):
    with pytest.raises(HTCLError, match="nowhere does not exist; check the path in the config"):
        storage.list_files(storage.join(root, "nowhere"))


def test_an_empty_folder_has_no_files(tmp_path):
    assert storage.list_files(str(tmp_path)) == {}


@pytest.mark.parametrize("locked", [".", "2025-01-02"], ids=["all", "one day"])
def test_an_unreadable_folder_is_an_error_and_not_an_empty_one(tmp_path, locked):
    log = tmp_path / "log"
    for day in ("2025-01-01", "2025-01-02"):
        (log / day).mkdir(parents=True)
        (log / day / "a.csv").write_text("1")
    (log / locked).chmod(0)
    script = (
        "import os, sys\n"
        "from htcl import storage\n"
        "from htcl.errors import HTCLError\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: print(storage.list_files(sys.argv[1]))\n"
        "except HTCLError as error: print('refused:', error)\n"
    )
    for parent in list(tmp_path.parents)[:3]:  # pytest's folders are its user's alone
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    try:
        child = subprocess.run(
            [sys.executable, "-c", script, str(log)], capture_output=True, text=True, check=False, cwd="/"
        )
    finally:
        (log / locked).chmod(0o755)
    if child.returncode and os.getuid() == 0:
        pytest.skip("an unprivileged user cannot run this Python")
    assert "cannot be read: Permission denied; check its permissions" in child.stdout


def test_listings_of_object_storage_are_not_remembered():
    fs, _ = storage.filesystem("memory://x")
    assert not fs.dircache.use_listings_cache


def test_join_and_local_paths():
    assert storage.join("s3://bucket/", "/a/", "b") == "s3://bucket/a/b"
    assert str(storage.local_path("file:///a/b")) == "/a/b"
    assert not storage.is_local("s3://bucket")
    with pytest.raises(HTCLError, match="s3://bucket is not a local path"):
        storage.local_path("s3://bucket")


@pytest.mark.parametrize("remote", [False, True])
def test_folders_are_listed_and_removed_whole(tmp_path, remote):
    folder = f"memory://{tmp_path.name}" if remote else str(tmp_path / "folder")
    assert storage.list_folder(folder) == []
    storage.remove_folder(folder)
    for name in ("b/c", "a"):
        storage.write_bytes(storage.join(folder, name), b"x")
    assert storage.list_folder(folder) == ["a", "b"]
    storage.remove_folder(storage.join(folder, "b"))
    assert storage.list_folder(folder) == ["a"]


@pytest.mark.parametrize("remote", [False, True])
def test_a_local_copy_has_the_content_and_leaves_nothing_behind(tmp_path, remote):
    uri = f"memory://{tmp_path.name}/file" if remote else str(tmp_path / "file")
    storage.write_bytes(uri, b"content")
    with storage.local_copy(uri) as path:
        assert path.read_bytes() == b"content"
    assert path.exists() != remote and storage.exists(uri)


def test_of_several_creators_of_an_object_the_first_succeeds():
    uri = f"memory://{uuid.uuid4().hex}/object"
    assert storage.create_bytes(uri, b"first")
    assert not storage.create_bytes(uri, b"second")
    assert storage.read_bytes(uri) == b"first"


def test_files_go_up_and_come_down_by_their_names(tmp_path):
    root, names = f"memory://{uuid.uuid4().hex}", ["a b.txt", "deep/ü.txt"]
    for name in names:
        storage.write_bytes(str(tmp_path / "from" / name), name.encode())
    storage.upload(tmp_path / "from", storage.join(root, "there"), names)
    assert set(storage.list_files(storage.join(root, "there"))) == set(names)
    storage.download(storage.join(root, "there"), tmp_path / "to", names)
    assert [(tmp_path / "to" / name).read_text() for name in names] == names


def test_a_path_of_this_machine_may_hold_any_characters(tmp_path):
    for name in ("a::b", "[x]", "50%20", "a b"):
        for prefix in ("", "file://"):
            uri = f"{prefix}{tmp_path}/{name}/file"
            storage.write_bytes(uri, name.encode())
            assert (tmp_path / name / "file").read_text() == name
            assert list(storage.list_files(f"{prefix}{tmp_path}/{name}/")) == ["file"]


def test_a_protocol_that_nobody_speaks_is_one_sentence():
    with pytest.raises(HTCLError, match="nowhere://x cannot be opened here: Protocol not known"):
        storage.exists("nowhere://x")


def test_object_storage_that_refuses_is_one_sentence_and_a_missing_object_is_none(monkeypatch):
    fs, _ = storage.filesystem("memory://x")

    def refuse(*_, **__):
        raise RuntimeError("Access\nDenied")

    with pytest.raises(FileNotFoundError):
        storage.read_bytes(f"memory://{uuid.uuid4().hex}")
    for name in ("exists", "cat_file", "ls", "find", "put_file"):
        monkeypatch.setattr(type(fs), name, refuse)
    places = [storage.exists, storage.read_bytes, storage.list_folder, storage.list_files]
    for act in (*places, lambda uri: storage.write_bytes(uri, b"")):
        with pytest.raises(HTCLError, match="memory://x cannot be reached: Access Denied; check its name, the cred"):
            act("memory://x")
