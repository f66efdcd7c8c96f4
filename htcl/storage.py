"""Files behind a URI (fsspec): local folders and object storage by the same calls."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec

from htcl.errors import HTCLError


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
    """The fsspec filesystem of a URI and the path in its own spelling."""
    if is_local(uri):
        return fsspec.core.url_to_fs(uri)  # type: ignore[no-any-return]
    # Other processes write what this one looks for: a remembered listing would hide it.
    return fsspec.core.url_to_fs(uri, use_listings_cache=False)  # type: ignore[no-any-return]


def delta_options(uri: str) -> dict[str, str] | None:
    """What deltalake has to be told to reach a URI; credentials and endpoint come from the environment (AWS_…)."""
    if is_local(uri):
        return None
    plain = os.environ.get("AWS_ENDPOINT_URL_S3", os.environ.get("AWS_ENDPOINT_URL", "")).startswith("http://")
    return {"allow_http": "true"} if plain else {}


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    fs, path = filesystem(uri)
    return bool(fs.exists(path))


def read_bytes(uri: str) -> bytes:
    """Read a whole small file."""
    fs, path = filesystem(uri)
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
        fs.get_file(path, handle.name)
        yield Path(handle.name)


def write_bytes(uri: str, data: bytes) -> None:
    """Write a small file, whole or not at all."""
    with open_atomic(uri) as handle:
        handle.write(data)


def list_folder(uri: str) -> list[str]:
    """Names of what lies in a folder; none where there is no such folder."""
    fs, path = filesystem(uri)
    try:
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in fs.ls(path, detail=False))
    except FileNotFoundError:
        return []


def remove_folder(uri: str) -> None:
    """Delete a folder and all in it, if it is there."""
    fs, path = filesystem(uri)
    with contextlib.suppress(FileNotFoundError):
        fs.rm(path, recursive=True)


def list_files(uri: str) -> dict[str, tuple[int, str]]:
    """Every file below a folder (or the file itself): relative path -> (bytes, change tag).

    Hidden files and those that start with an underscore are passed over, as Spark does.

    Raises:
        HTCLError: when there is nothing at the URI or it cannot be read.
    """
    fs, path = filesystem(uri)
    try:
        if is_local(uri):
            _check_readable(path)
        found = fs.find(path, detail=True)
    except PermissionError as error:
        place = error.filename or uri
        raise HTCLError(f"{place} cannot be read: {error.strerror}; check its permissions") from None
    if not found and not fs.exists(path):
        raise HTCLError(f"{uri} does not exist; check the path in the config")
    base = path.rstrip("/")
    files = {}
    for name, info in sorted(found.items()):
        relative = name[len(base) :].lstrip("/") or Path(name).name
        if not any(part.startswith((".", "_")) for part in Path(relative).parts):
            files[relative] = (int(info["size"]), _change_tag(info))
    return files


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
