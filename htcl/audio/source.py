"""Open an audio source, and watch the bytes that the decoder reads from it."""

import errno
import hashlib
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import SEEK_SET
from pathlib import Path
from typing import BinaryIO, cast

from htcl.audio.rejects import AudioRejected, RejectReason
from htcl.errors import HTCLError

# No codec in use writes this many zeros in a row: the largest MPEG frame has 1441 bytes, AAC and Opus packets
# about as many.
ZERO_RUN_BYTES = 4096
# Cover art and MP4 indexes stay far below; a file that yields no sound for so long will not yield any.
MAX_BYTES_WITHOUT_SOUND = 32 * 2**20
_BLOCK_BYTES = 2**20


@contextmanager
def open_audio(source: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    """Open a local path, an fsspec URI or an already open seekable file (which is left open).

    Raises:
        AudioRejected: `missing_file`; `unreadable` for folders, devices, missing permissions, impossible names.
            Other I/O errors (a network that fails) are raised as they are: they say nothing about the file.
    """
    if not isinstance(source, (str, Path)):
        yield source
        return
    try:
        file = _open_uri(source) if isinstance(source, str) and "://" in source else _open_local(Path(source))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioRejected(RejectReason.MISSING_FILE, f"no file at {source}") from error
    except PermissionError as error:
        raise AudioRejected(RejectReason.UNREADABLE, f"no permission to read {source}") from error
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        raise AudioRejected(RejectReason.UNREADABLE, f"{source}: {error.strerror}") from error
    with file:
        yield file


def _open_local(path: Path) -> BinaryIO:
    # Opening a pipe would wait for a writer for ever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise AudioRejected(RejectReason.UNREADABLE, f"{path} is a folder or a device, not a file")
    return path.open("rb")


def _open_uri(uri: str) -> BinaryIO:
    from htcl import storage

    if storage.is_local(uri):
        return _open_local(storage.local_path(uri))
    scheme, _, rest = uri.partition("://")
    bucket, _, name = rest.partition("/")
    # fsspec would take a `::` in the name for a chain of filesystems.
    fs, root = storage.filesystem(f"{scheme}://{bucket}")
    return cast(BinaryIO, fs.open(f"{root}/{name}", "rb"))


@contextmanager
def named(source: str) -> Iterator[None]:
    """Name the file in whatever its storage raises while the block reads it.

    Raises:
        AudioRejected: as it is.
        HTCLError: for every other error.
    """
    try:
        yield
    except (AudioRejected, HTCLError):
        raise
    except Exception as error:  # each client of object storage has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HTCLError(
            f"{source} cannot be read: {reason}; check the storage and the credentials, then run the step again"
        ) from error


@contextmanager
def _copying(source: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HTCLError(
            f"{source} cannot be copied to {tempfile.gettempdir()}: {error.strerror}; make room there, or name a "
            "folder that has it by TMPDIR where the tasks run"
        ) from error


@dataclass(frozen=True)
class LocalAudio:
    """An audio file as a path of this host, and the hash of its bytes.

    A copy out of object storage is deleted by `close`, or with the last reference.
    """

    path: str
    file_hash: str
    copy: "tempfile._TemporaryFileWrapper[bytes] | None" = None

    def close(self) -> None:
        """Delete the copy, if it is one."""
        if self.copy is not None:
            self.copy.close()


def fetch_audio(source: str) -> LocalAudio:
    """Read a whole file once: its hash, and from object storage a copy for as long as the result is kept.

    Args:
        source: from `resolve_audio_path`.

    Raises:
        AudioRejected: as `open_audio`.
        HTCLError: naming the file, when its storage fails or the copy does not fit.
    """
    if "://" not in source:
        return LocalAudio(source, hash_audio(source))
    with named(source), open_audio(source) as file:
        with _copying(source):
            copy = tempfile.NamedTemporaryFile(prefix="htcl-")  # noqa: SIM115  (closed by LocalAudio)
        digest = hashlib.blake2b(digest_size=16)
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            with _copying(source):
                copy.write(block)
                copy.flush()
        return LocalAudio(copy.name, digest.hexdigest(), copy)


def hash_audio(source: str) -> str:
    """Hash of a file's bytes, 32 hexadecimal digits; raises as `fetch_audio`."""
    digest = hashlib.blake2b(digest_size=16)
    with named(source), open_audio(source) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


class WatchedFile:
    """The file-like object that PyAV reads. It notes long runs of zero bytes and ends runaway reads.

    Attributes:
        bytes_read: total number of bytes read.
        zero_runs: offsets in the file where ZERO_RUN_BYTES or more zeros in a row were read.
        gave_up: true once MAX_BYTES_WITHOUT_SOUND were read without a call of `sound_found`; from then on the
            file reads as ended.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = file.seek(0)
        self._before = b""
        self._bytes_without_sound = 0
        self.bytes_read = 0
        self.zero_runs: list[int] = []
        self.gave_up = False

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        if self._bytes_without_sound > MAX_BYTES_WITHOUT_SOUND:
            self.gave_up = True
            return b""
        data = self._file.read(size)
        window = self._before + data
        zeros_at = window.find(bytes(ZERO_RUN_BYTES))
        if zeros_at >= 0:
            self.zero_runs.append(self._position - len(self._before) + zeros_at)
        self._before = window[-(ZERO_RUN_BYTES - 1) :]
        self._position += len(data)
        self._bytes_without_sound += len(data)
        self.bytes_read += len(data)
        return data

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Move the position, as `io.IOBase.seek` does."""
        self._position = self._file.seek(offset, whence)
        self._before = b""
        return self._position

    def tell(self) -> int:
        """Return the position in the file, in bytes."""
        return self._position

    def sound_found(self) -> None:
        """Start the count of bytes without sound afresh."""
        self._bytes_without_sound = 0
