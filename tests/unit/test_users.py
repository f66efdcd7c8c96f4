import stat
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcl.errors import HTCLError
from htcl.users import KEY_FILE_VARIABLE, KEY_VARIABLE, hash_users, load_user_key


@pytest.fixture(autouse=True)
def _no_key_in_the_environment(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(KEY_FILE_VARIABLE, raising=False)


def test_the_hash_of_a_user_is_pinned():
    assert hash_users(pa.array(["anna"]), b"key").to_pylist() == [9155872257738256401]


def test_another_key_gives_other_hashes():
    users = pa.array([f"user{n}" for n in range(50)])
    one, other = (set(hash_users(users, key).to_pylist()) for key in (b"one", b"other"))
    assert len(one) == len(other) == 50
    assert not one & other


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=5), max_size=8))
def test_equal_users_have_equal_hashes_and_null_stays_null(users):
    hashes = hash_users(pa.array(users, pa.string()), b"key")
    assert hashes.type == pa.int64()
    found = dict(zip(users, hashes.to_pylist(), strict=True))
    assert [found[user] for user in users] == hashes.to_pylist()
    assert all((value is None) == (user is None) for user, value in found.items())
    assert len(set(found.values())) == len(found)
    assert all(value >= 0 for value in found.values() if value is not None)


def test_no_user_id_is_in_what_is_returned():
    hashed = hash_users(pa.array(["anna@example.org", None, "bob"]), b"key")
    assert pa.types.is_integer(hashed.type)
    assert not any(b"anna" in buffer.to_pybytes() for buffer in hashed.buffers() if buffer)


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path):
    key = load_user_key(str(tmp_path))
    assert len(key) == 64
    assert load_user_key(str(tmp_path)) == key
    made = tmp_path / "secrets" / "user.key"
    assert [f.name for f in made.parent.iterdir()] == ["user.key"]
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    assert load_user_key(str(tmp_path / "other")) != key


def test_two_processes_at_once_get_one_key(tmp_path):
    script = (
        "import sys\n"
        "from htcl.users import load_user_key\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(load_user_key(sys.argv[1]).decode())\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    keys = {child.communicate()[0].strip() for child in children}
    assert keys == {(tmp_path / "secrets" / "user.key").read_text()}
    assert stat.S_IMODE((tmp_path / "secrets" / "user.key").stat().st_mode) == 0o600


def test_the_environment_wins_over_the_workspace(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("from the file\n")
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    assert load_user_key("s3://bucket") == b"from the file"
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    assert load_user_key("s3://bucket") == b"secret"
    assert not (tmp_path / "secrets").exists()


def test_a_key_that_is_missing_or_empty_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(HTCLError, match="set HTCL_USER_KEY or HTCL_USER_KEY_FILE"):
        load_user_key("s3://bucket")
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(HTCLError, match="none, which cannot be read: No such file"):
        load_user_key("s3://bucket")
    (tmp_path / "none").write_text(" \n")
    with pytest.raises(HTCLError, match="none, which is empty"):
        load_user_key("s3://bucket")
