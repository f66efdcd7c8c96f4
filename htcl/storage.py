"""Files behind a URI (fsspec): local folders and object storage by the same calls."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import fsspec

from htcl.errors import HTCLError, PassingError


def join(root: str, *parts: str) -> str:
    """Join parts onto a folder or URI."""
    return "/".join([root.rstrip("/"), *(part.strip("/") for part in parts)])


def is_local(uri: str) -> bool:
    """Whether a URI is a path of this machine."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """The path behind a local URI.

    Raises:
        HTCLError: when the URI is not local.
    """
    if not is_local(uri):
        raise HTCLError(f"{uri} is not a local path")
    return Path(uri.removeprefix("file://"))


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URI and the path in its own spelling.

    Raises:
        HTCLError: when nothing that is installed speaks its protocol.
    """
    if is_local(uri):
        # By itself fsspec takes `::` in a path for a chain of filesystems.
        return fsspec.filesystem("file"), str(local_path(uri).absolute())
    try:
        # Other processes write what this one looks for: a remembered listing would hide it.
        return fsspec.core.url_to_fs(uri, use_listings_cache=False)  # type: ignore[no-any-return]
    except (ImportError, ValueError) as error:
        extra = "; `pip install -e '.[s3]'` in the checkout" if uri.startswith("s3://") else ""
        raise HTCLError(f"{uri} cannot be opened here: {error}{extra}") from None


_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}
"""Of botocore, which is there for those only who use S3."""


@contextlib.contextmanager
def reached(uri: str) -> Iterator[None]:
    """Say what cannot be reached when object storage refuses; a file that is not there stays FileNotFoundError.

    Raises:
        HTCLError: no credentials, no permission.
        PassingError: no such host, no answer.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        if is_local(uri) or isinstance(error, HTCLError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        refused = isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS
        kind = HTCLError if refused else PassingError
        raise kind(f"{uri} cannot be reached: {reason}; check its name, the credentials and the endpoint") from error


def delta_url(uri: str) -> str:
    """A folder as deltalake wants it.

    Raises:
        HTCLError: when there is a percent sign in it, which deltalake's parts decode once or twice.
    """
    if "%" in uri:
        raise HTCLError(f"{uri}: no table can lie below a path with a percent sign; choose another workspace")
    if is_local(uri):
        return "file://" + quote(str(local_path(uri).absolute()))
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{quote(rest)}"


def delta_options(uri: str) -> dict[str, str] | None:
    """What deltalake has to be told to reach a URI; credentials and endpoint come from the environment (AWS_…)."""
    if is_local(uri):
        return None
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3", os.environ.get("AWS_ENDPOINT_URL", ""))
    options = {"aws_endpoint_url": endpoint} if endpoint else {}
    return options | ({"allow_http": "true"} if endpoint.startswith("http://") else {})


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    fs, path = filesystem(uri)
    with reached(uri):
        return bool(fs.exists(path))


def read_bytes(uri: str) -> bytes:
    """Read a whole small file."""
    fs, path = filesystem(uri)
    with reached(uri):
        return bytes(fs.cat_file(path))


@contextlib.contextmanager
def open_atomic(uri: str) -> Iterator[IO[bytes]]:
    """Open a file for writing that is visible complete or not at all.

    A local file is written aside and renamed; an object is uploaded when the block ends without an error.
    """
    fs, path = filesystem(uri)
    if not is_local(uri):
        # A handle of fsspec would publish the half file on the way out of a failed block.
        with tempfile.NamedTemporaryFile(prefix="htcl-") as aside_file:
            yield aside_file
            aside_file.flush()
            with reached(uri):
                fs.put_file(aside_file.name, path)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A file as a path of this host; from object storage it is fetched for as long as the block runs."""
    if is_local(uri):
        yield local_path(uri)
        return
    fs, path = filesystem(uri)
    with tempfile.NamedTemporaryFile(prefix="htcl-") as handle:
        with reached(uri):
            fs.get_file(path, handle.name)
        yield Path(handle.name)


def write_bytes(uri: str, data: bytes) -> None:
    """Write a small file, whole or not at all."""
    with open_atomic(uri) as handle:
        handle.write(data)


def create_bytes(uri: str, data: bytes) -> bool:
    """Write a small file unless there is one; of several writers at once one succeeds, and no reader sees half of it.

    Returns:
        Whether it was written.
    """
    fs, path = filesystem(uri)
    if is_local(uri):
        return _create_file(Path(path), data)
    try:
        with reached(uri):
            fs.pipe_file(path, data, mode="create")
    except HTCLError:  # each storage has its own way to say that another was faster
        if not exists(uri):
            raise
        return False
    return True


def _create_file(target: Path, data: bytes) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.link(aside, target)  # unlike a rename it does not replace what is there
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    return True


def upload(folder: Path, uri: str, names: Sequence[str]) -> None:
    """Copy files, by their paths relative to a local folder, to below a URI of object storage, many at once."""
    fs, path = filesystem(uri)
    with reached(uri):
        fs.put([str(folder / name) for name in names], [f"{path}/{name}" for name in names])


def download(uri: str, folder: Path, names: Sequence[str]) -> None:
    """Copy files, by their paths relative to a URI, to below a local folder, many at once."""
    fs, path = filesystem(uri)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with reached(uri):
        fs.get([f"{path}/{name}" for name in names], [str(folder / name) for name in names])


def list_folder(uri: str) -> list[str]:
    """Names of what lies in a folder; none where there is no such folder."""
    fs, path = filesystem(uri)
    with reached(uri):
        try:
            found = [str(name).rstrip("/") for name in fs.ls(path, detail=False)]
        except FileNotFoundError:
            return []
    # Object storage may hold an empty object that stands for the folder itself.
    return sorted(name.rsplit("/", 1)[-1] for name in found if name != path.rstrip("/"))


def size_and_age(uri: str) -> tuple[int, float]:
    """Bytes of a file, or of all files below a folder, and when the newest of them was written, in seconds of Unix."""
    fs, path = filesystem(uri)
    with reached(uri):
        found = fs.find(path, detail=True, withdirs=False)
        infos = list(found.values()) or [fs.info(path)]
    return sum(int(info["size"] or 0) for info in infos), max(map(_written, infos))


def _written(info: dict[str, Any]) -> float:
    value = next((info[name] for name in ("mtime", "LastModified", "last_modified", "created") if info.get(name)), 0.0)
    return value.timestamp() if isinstance(value, datetime) else float(value)


def remove_file(uri: str) -> None:
    """Delete a file, if it is there."""
    fs, path = filesystem(uri)
    with reached(uri), contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def remove_folder(uri: str) -> None:
    """Delete a folder and all in it, if it is there."""
    fs, path = filesystem(uri)
    with reached(uri), contextlib.suppress(FileNotFoundError):
        fs.rm(path, recursive=True)


def list_files(uri: str, hidden: bool = False) -> dict[str, tuple[int, str]]:
    """Every file below a folder (or the file itself): relative path -> (bytes, change tag).

    Args:
        uri: of the folder.
        hidden: also what begins with a dot or an underscore, or lies below such a folder; Spark passes it over.

    Raises:
        HTCLError: when there is nothing at the URI or it cannot be read.
    """
    fs, path = filesystem(uri)
    try:
        with reached(uri):
            if is_local(uri):
                _check_readable(path)
            found = fs.find(path, detail=True)
    except FileNotFoundError:
        found = {}
    except PermissionError as error:
        raise HTCLError(f"{error.filename or uri} cannot be read: {error.strerror}; check its permissions") from None
    if not found and not exists(uri):
        raise HTCLError(f"{uri} does not exist; check the path in the config")
    base = path.rstrip("/")
    files = {}
    for name, info in sorted(found.items()):
        relative = name[len(base) :].lstrip("/") or Path(name).name
        # An empty object with the name of a folder stands for the folder.
        if (hidden or not is_hidden(relative)) and not name.endswith("/"):
            files[relative] = (int(info["size"]), _change_tag(info))
    return files


def is_hidden(path: str) -> bool:
    """Whether a relative path or a folder on it begins with a dot or an underscore."""
    return any(part.startswith((".", "_")) for part in Path(path).parts)


def _change_tag(info: dict[str, Any]) -> str:
    """What changes when a file's content does: ETag on object storage, else the modification time."""
    names = ("ETag", "etag", "mtime", "LastModified", "last_modified", "created")
    return next((str(info[name]) for name in names if info.get(name)), "")


def _check_readable(path: str) -> None:
    # fsspec passes over a folder that it may not read; half a log is not the log.
    for _, folders, _ in os.walk(path, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]


def _refuse_unreadable(error: OSError) -> None:
    if isinstance(error, PermissionError):
        raise error
