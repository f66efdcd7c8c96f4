"""Files that are read whole: what names them when their storage, or the disk for their copy, fails."""

from __future__ import annotations

import hashlib
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from htcl.audio.rejects import AudioRejected
from htcl.audio.source import fetch_audio, hash_audio
from htcl.errors import HTCLError

MEBI = 1 << 20
NAME = "Artist :: Title é.flac"


@pytest.fixture
def uri() -> str:
    """A file of three MiB, in a folder and with a name that look like chains of fsspec."""
    fsspec.filesystem("memory").pipe(f"/songs/A :: B/{NAME}", bytes(3 * MEBI))
    return f"memory://songs/A :: B/{NAME}"


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file grows over one MiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEBI, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_remote_file_is_hashed_and_copied_until_it_is_closed(uri: str) -> None:
    audio = fetch_audio(uri)
    assert Path(audio.path).read_bytes() == bytes(3 * MEBI)
    assert audio.file_hash == hash_audio(uri) == hashlib.blake2b(bytes(3 * MEBI), digest_size=16).hexdigest()
    audio.close()
    assert not Path(audio.path).exists()


def test_a_copy_that_does_not_fit_names_the_file_the_folder_and_the_way_out(
    uri: str, small_disk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    expected = f"^{uri} cannot be copied to {tmp_path}: File too large; make room there, .* by TMPDIR"
    with pytest.raises(HTCLError, match=expected):
        fetch_audio(uri)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read", [fetch_audio, hash_audio])
def test_a_disk_that_fails_is_one_sentence_with_the_name_of_the_file(read) -> None:
    with pytest.raises(HTCLError, match=r"^/proc/self/mem cannot be read: .*Input/output error; check the storage"):
        read("/proc/self/mem")


@pytest.mark.parametrize("read", [fetch_audio, hash_audio])
@pytest.mark.parametrize("source", ["/no/such :: file", "memory://songs/no :: such"])
def test_a_file_that_is_not_there_is_refused(read, source: str) -> None:
    with pytest.raises(AudioRejected, match="missing_file"):
        read(source)
