"""Content-keyed artifact folders: written aside, published whole, each with a manifest.

A local artifact is renamed into place. In object storage nothing can be renamed: each attempt at an artifact has a
folder of its own, and the manifest, written last and only where there is none yet, names the one that counts.
"""

from __future__ import annotations

import contextlib
import fcntl
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

    def manifests(self, kind: str) -> list[dict[str, Any]]:
        """All published manifests of a kind, oldest first."""
        keys = storage.list_folder(storage.join(self.workspace, "artifacts", kind))
        found = [self._manifest(kind, key) for key in keys if not key.startswith(".")]
        return sorted(filter(None, found), key=lambda manifest: str(manifest["created"]))

    def fetch(self, kind: str, key: str) -> Path:
        """The artifact as a local folder; from object storage it is copied into a cache of this host once."""
        manifest = self.manifest(kind, key)
        uri = self.uri(kind, key)
        if storage.is_local(uri):
            return storage.local_path(uri)
        cache = _cache_folder() / fingerprint([uri, manifest])
        with cache.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tasks of one host want the same model at once
            if not (cache / MANIFEST).exists():
                _download(storage.join(uri, manifest["folder"]), manifest, cache)
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
    if not storage.create_object(storage.join(target, MANIFEST), manifest):
        _discard(draft.uri, target)


def _discard(uri: str, target: str) -> None:
    """Delete an attempt, unless it is the artifact: a manifest may have arrived though the answer got lost."""
    try:
        published = json.loads(storage.read_bytes(storage.join(target, MANIFEST)))["folder"]
    except FileNotFoundError:
        published = None
    if published != uri.rpartition("/")[2]:
        storage.remove_folder(uri)


def _download(uri: str, manifest: dict[str, Any], cache: Path) -> None:
    """Copy the files of a manifest; whoever finds the folder finds all of them."""
    aside = cache.with_name(f"{cache.name}.{uuid.uuid4().hex}")
    try:
        storage.download(uri, aside, list(manifest["files"]))
        (aside / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        _rename_into_place(aside, cache)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _cache_folder() -> Path:
    """Where this user's copies lie on this host."""
    folder = Path(tempfile.gettempdir()) / f"htcl-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise HTCLError(f"{folder} belongs to another user, who could change models in it; set TMPDIR to your own")
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
