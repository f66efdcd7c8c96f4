"""Content-keyed artifact folders: written aside, published whole, each with a manifest."""

from __future__ import annotations

import contextlib
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
        uri: where tasks on other hosts write (`htcl.parts`); of what lies there only `parts` become part of it.
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
        """Folder of an artifact."""
        return storage.join(self.workspace, "artifacts", kind, key)

    def published(self, kind: str, key: str) -> bool:
        """Whether the artifact is there, whole."""
        return storage.exists(storage.join(self.uri(kind, key), MANIFEST))

    def manifest(self, kind: str, key: str) -> dict[str, Any]:
        """Read an artifact's manifest.

        Raises:
            HTCLError: when it is not published, or damaged.
        """
        uri = storage.join(self.uri(kind, key), MANIFEST)
        try:
            return dict(json.loads(storage.read_bytes(uri)))
        except FileNotFoundError:
            raise HTCLError(f"{kind} {key} is not published in {self.workspace}; run the pipeline first") from None
        except ValueError:
            raise HTCLError(f"{uri} is damaged; delete its folder and run the pipeline again") from None

    def manifests(self, kind: str) -> list[dict[str, Any]]:
        """All published manifests of a kind, oldest first."""
        fs, path = storage.filesystem(storage.join(self.workspace, "artifacts", kind))
        names = fs.glob(f"{path}/*/{MANIFEST}")
        keys = [Path(name).parent.name for name in names]
        found = [self.manifest(kind, key) for key in keys if not key.startswith(".")]
        return sorted(found, key=lambda manifest: str(manifest["created"]))

    def fetch(self, kind: str, key: str) -> Path:
        """The artifact as a local folder; from object storage it is copied into a cache once."""
        manifest = self.manifest(kind, key)
        uri = self.uri(kind, key)
        if storage.is_local(uri):
            return storage.local_path(uri)
        cache = Path(tempfile.gettempdir()) / f"htcl-cache-{os.getuid()}" / fingerprint([uri, manifest])
        if not (cache / MANIFEST).exists():
            fs, path = storage.filesystem(uri)
            aside = cache.with_name(f"{cache.name}.{uuid.uuid4().hex}")
            for name in [*manifest["files"], MANIFEST]:
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(f"{path}/{name}", str(aside / name))
            _rename_into_place(aside, cache)
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
        aside = self._aside(target)
        try:
            draft = Draft(path=aside, uri=str(aside) if storage.is_local(target) else target)
            yield draft
            _drop_strays(aside, draft)
            local = {str(f.relative_to(aside)): f.stat().st_size for f in sorted(aside.rglob("*")) if f.is_file()}
            files = {**local, **{part.path: part.size for part in draft.parts}}
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
                "files": files,
            }
            text = json.dumps(manifest, indent=1, ensure_ascii=False)
            (aside / MANIFEST).write_text(text, encoding="utf-8")
            _publish(aside, target, [*local, MANIFEST])
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _aside(self, target: str) -> Path:
        if not storage.is_local(target):
            return Path(tempfile.mkdtemp(prefix="htcl-"))
        path = storage.local_path(target)
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        aside.mkdir(parents=True)
        return aside


def _drop_strays(aside: Path, draft: Draft) -> None:
    """Delete what tasks wrote that did not finish, where they wrote into the local folder."""
    told = {part.path for part in draft.parts}
    for folder in {(aside / path).parent for path in told}:
        for path in folder.glob("part-*.parquet"):
            if str(path.relative_to(aside)) not in told:
                path.unlink()


def _publish(aside: Path, target: str, names: list[str]) -> None:
    if storage.is_local(target):
        _rename_into_place(aside, storage.local_path(target))
        return
    fs, path = storage.filesystem(target)
    if fs.exists(f"{path}/{MANIFEST}"):
        return
    for name in names:  # the manifest comes last: what has one is whole
        fs.put_file(str(aside / name), f"{path}/{name}")


def _rename_into_place(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError:
        if target.is_dir() and not (target / MANIFEST).exists():
            raise HTCLError(f"{target} is damaged: it has no {MANIFEST}; delete it and run again") from None
        if not target.is_dir():
            raise
        shutil.rmtree(aside, ignore_errors=True)
