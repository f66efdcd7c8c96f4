"""Content-keyed artifact folders: written aside, published whole, each with a manifest.

A local artifact is renamed into place. In object storage nothing can be renamed: each attempt at an artifact has a
folder of its own, and the manifest, written last and only where there is none yet, names the one that counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from htcl import __version__, storage
from htcl.config import fingerprint
from htcl.errors import HTCLError
from htcl.parts import Part

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Recipe:
    """What an artifact is made from; its key is the hash of all of it.

    Attributes:
        kind: name of the step.
        step_version: raised when the step's output changes meaning.
        section: the settings that the step reads.
        inputs: name -> key of the artifact or fingerprint of the raw input it reads.
    """

    kind: str
    step_version: int
    section: dict[str, Any]
    inputs: dict[str, str]

    @property
    def key(self) -> str:
        """The content key, 16 hexadecimal digits."""
        return fingerprint([self.kind, self.step_version, self.section, self.inputs])


@dataclass
class Draft:
    """An artifact being made: folders to fill, figures and table versions to note.

    Attributes:
        path: local folder; every file in it becomes part of the artifact.
        uri: where tasks, also on other hosts, write (`htcl.parts`); of what they write only `parts` become part of it.
        parts: what finished tasks wrote below `uri`.
        figures: for the manifest.
        tables: versions of the growing tables that it was made from.
    """

    path: Path
    uri: str
    parts: list[Part] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)


class ArtifactStore:
    """The artifacts below one workspace, local or in object storage."""

    def __init__(self, workspace: str) -> None:
        self.workspace = workspace

    def uri(self, kind: str, key: str) -> str:
        """Folder of an artifact, with its manifest."""
        return storage.join(self.workspace, "artifacts", kind, key)

    def content(self, kind: str, key: str) -> str:
        """Folder of the files that a published artifact consists of."""
        return storage.join(self.uri(kind, key), self.manifest(kind, key)["folder"]).rstrip("/")

    def published(self, kind: str, key: str) -> bool:
        """Whether the artifact is there, whole."""
        return storage.exists(storage.join(self.uri(kind, key), MANIFEST))

    def manifest(self, kind: str, key: str) -> dict[str, Any]:
        """Read an artifact's manifest.

        Raises:
            HTCLError: when it is not published, or damaged.
        """
        found = self._manifest(kind, key)
        if found is None:
            raise HTCLError(f"{kind} {key} is not published in {self.workspace}; run the pipeline first")
        return found

    def _manifest(self, kind: str, key: str) -> dict[str, Any] | None:
        uri = storage.join(self.uri(kind, key), MANIFEST)
        try:
            return dict(json.loads(storage.read_bytes(uri)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            raise HTCLError(f"{uri} is damaged; delete its folder and run the pipeline again") from None

    def lineage(self, kind: str, key: str) -> dict[str, Any] | None:
        """The manifest of an artifact, also of one that was collected since; None where there never was one."""
        found = self._manifest(kind, key)
        if found is None and storage.exists(uri := self._lineage_uri(kind, key)):
            found = dict(json.loads(storage.read_bytes(uri)))
        return found

    def discard(self, kind: str, key: str, keep_lineage: bool) -> None:
        """Delete an artifact; nobody finds half of it meanwhile.

        Args:
            kind: name of the step.
            key: of the artifact.
            keep_lineage: whether `lineage` still tells what it was made from.
        """
        if keep_lineage:
            storage.write_bytes(self._lineage_uri(kind, key), json.dumps(self.manifest(kind, key)).encode())
        storage.remove_file(storage.join(self.uri(kind, key), MANIFEST))
        storage.remove_folder(self.uri(kind, key))

    def _lineage_uri(self, kind: str, key: str) -> str:
        return storage.join(self.workspace, "lineage", kind, f"{key}.json")

    def manifests(self, kind: str) -> list[dict[str, Any]]:
        """All published manifests of a kind, oldest first."""
        keys = storage.list_folder(storage.join(self.workspace, "artifacts", kind))
        found = [self._manifest(kind, key) for key in keys if not key.startswith(".")]
        return sorted(filter(None, found), key=lambda manifest: str(manifest["created"]))

    def fetch(self, kind: str, key: str) -> Path:
        """The artifact as a local folder; from object storage it is copied into a cache of this host once.

        Raises:
            HTCLError: when it is not published, or its files are not what was published.
        """
        manifest = self.manifest(kind, key)
        uri = self.uri(kind, key)
        if storage.is_local(uri):
            _check_bytes(storage.local_path(uri), manifest, uri)
            return storage.local_path(uri)
        cache = cache_folder(self.workspace) / cached_name(self, kind, key)
        with cache.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tasks of one host want the same model at once
            if not (cache / MANIFEST).exists():
                _download(storage.join(uri, manifest["folder"]), manifest, cache)
        _check_bytes(cache, manifest, f"{cache}, a copy of {uri},")
        return cache

    @contextlib.contextmanager
    def create(self, recipe: Recipe, started: float | None = None) -> Iterator[Draft]:
        """Fill a folder aside; when the block ends without an error the artifact is published.

        Two makers of one key do no harm: what was published first stays.

        Args:
            recipe: what it is made from.
            started: `time.monotonic()` at which the making began, where that was before this block.
        """
        started = time.monotonic() if started is None else started
        target = self.uri(recipe.kind, recipe.key)
        with _attempt(target) as draft:
            yield draft
            _drop_strays(draft)
            local = [str(file.relative_to(draft.path)) for file in sorted(draft.path.rglob("*")) if file.is_file()]
            files = {name: (draft.path / name).stat().st_size for name in local}
            manifest = {
                "kind": recipe.kind,
                "key": recipe.key,
                "step_version": recipe.step_version,
                "section": recipe.section,
                "inputs": recipe.inputs,
                "created": datetime.now(UTC).isoformat(timespec="microseconds"),
                "seconds": round(time.monotonic() - started, 1),
                "htcl": __version__,
                "figures": draft.figures,
                "tables": draft.tables,
                "folder": "" if storage.is_local(target) else draft.uri.rpartition("/")[2],
                "files": {**files, **{part.path: part.size for part in draft.parts}},
                "digests": {name: _digest(draft.path / name) for name in local},
            }
            _publish(draft, target, local, json.dumps(manifest, indent=1, ensure_ascii=False).encode())


@contextlib.contextmanager
def _attempt(target: str) -> Iterator[Draft]:
    """Folders for an artifact that nobody reads yet; a failed block leaves nothing of them."""
    name = uuid.uuid4().hex
    if storage.is_local(target):
        place = storage.local_path(target)
        aside = place.with_name(f".{place.name}.{name}")
        aside.mkdir(parents=True)
        uri = str(aside)
    else:
        aside, uri = Path(tempfile.mkdtemp(prefix="htcl-")), storage.join(target, name)
    try:
        yield Draft(path=aside, uri=uri)
    except BaseException:
        if not storage.is_local(target):
            with contextlib.suppress(HTCLError):  # out of reach: what failed is told, not this
                _discard(uri, target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _drop_strays(draft: Draft) -> None:
    """Delete what tasks wrote that did not finish, where they wrote into the local folder."""
    told = {part.path for part in draft.parts}
    for folder in {(draft.path / path).parent for path in told}:
        for path in folder.glob("part-*.parquet"):
            if str(path.relative_to(draft.path)) not in told:
                path.unlink()


def _publish(draft: Draft, target: str, names: list[str], manifest: bytes) -> None:
    """Make an attempt the artifact, unless another was faster."""
    if storage.is_local(target):
        (draft.path / MANIFEST).write_bytes(manifest)
        _rename_into_place(draft.path, storage.local_path(target))
        return
    storage.upload(draft.path, draft.uri, names)
    if not storage.create_bytes(storage.join(target, MANIFEST), manifest):
        _discard(draft.uri, target)


def _discard(uri: str, target: str) -> None:
    """Delete an attempt, unless it is the artifact: a manifest may have arrived though the answer got lost."""
    try:
        published = json.loads(storage.read_bytes(storage.join(target, MANIFEST)))["folder"]
    except FileNotFoundError:
        published = None
    if published != uri.rpartition("/")[2]:
        storage.remove_folder(uri)


_CHECKED: set[tuple[str, str]] = set()
"""Folders, and when what they hold was made, whose bytes this process has looked at."""


def _check_bytes(folder: Path, manifest: dict[str, Any], what: str) -> None:
    """Hold the files of an artifact against its manifest, once a process."""
    seen = (str(folder), str(manifest["created"]))
    if seen in _CHECKED:
        return
    for name, size in manifest["files"].items():
        path, digest = folder / name, manifest.get("digests", {}).get(name)  # tasks wrote what has none
        whole = path.is_file() and path.stat().st_size == size and digest in (None, _digest(path))
        if not whole:
            raise HTCLError(f"{what} is damaged: {name} is not what was published; delete that folder and run again")
    _CHECKED.add(seen)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(uri: str, manifest: dict[str, Any], cache: Path) -> None:
    """Copy the files of a manifest; whoever finds the folder finds all of them."""
    aside = cache.with_name(f"{cache.name}.{uuid.uuid4().hex}")
    try:
        storage.download(uri, aside, list(manifest["files"]))
        (aside / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        _rename_into_place(aside, cache)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def cached_name(store: ArtifactStore, kind: str, key: str) -> str:
    """What the copy of a published artifact is called on a host."""
    return fingerprint([store.uri(kind, key), store.manifest(kind, key)])


def cache_folder(workspace: str) -> Path:
    """Where this user's copies of a workspace's artifacts lie on this host."""
    folder = own_folder("htcl-cache") / fingerprint(workspace)
    folder.mkdir(exist_ok=True)
    return folder


def own_folder(name: str) -> Path:
    """A temporary folder of this host that is this user's alone.

    Raises:
        HTCLError: when somebody else has made it.
    """
    folder = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise HTCLError(f"{folder} belongs to another user, who could change what is in it; set TMPDIR to your own")
    return folder


def _rename_into_place(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError:
        if target.is_dir() and not (target / MANIFEST).exists():
            raise HTCLError(f"{target} is damaged: it has no {MANIFEST}; delete it and run again") from None
        if not target.is_dir():
            raise
        shutil.rmtree(aside, ignore_errors=True)
