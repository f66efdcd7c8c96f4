"""Garbage collection: what a workspace holds that neither a published set nor the newest work needs.

Kept are the artifacts that the last published sets and the newest artifacts of each kind were made from. Of models that
they were fine-tuned from, the manifest stays as lineage, and the index that says which songs those were trained on; the
weights go. What is younger than a grace is left alone: somebody may just be writing it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from htcl import storage
from htcl.artifacts import MANIFEST, ArtifactStore, cache_folder, cached_name
from htcl.champion import past_champions
from htcl.embeddings.work import embeddings_table
from htcl.logs import get_logger, log
from htcl.pairs.log_index import FILES, index_folder
from htcl.pairs.quality import quality_table
from htcl.pairs.store import pair_table
from htcl.shards.index import read_index
from htcl.shards.state import index_table, shard_folder
from htcl.shards.work import refused_table
from htcl.tables import rejects_table

KINDS = (
    "catalog", "shards", "pairs", "stage1", "stage2", "gate_set", "evaluation", "embeddings", "index", "report",
    "answers", "report_card",
)  # fmt: skip
_PARENT = {"champion": "stage2"}
"""Inputs that are named after what they are for."""

Node = tuple[str, str]
"""Kind and key of an artifact."""


@dataclass(frozen=True)
class Garbage:
    """Something that goes.

    Attributes:
        kind: of thing, for people.
        name: of it.
        uri: file or folder.
        size: bytes.
        lineage: whether its manifest stays.
    """

    kind: str
    name: str
    uri: str
    size: int
    lineage: bool = False


@dataclass(frozen=True)
class Reach:
    """What stays.

    Attributes:
        whole: artifacts with their files.
        lineage: artifacts of which the manifest says where others come from.
        versions: versions of growing tables that artifacts were made from, by table.
    """

    whole: set[Node]
    lineage: set[Node]
    versions: dict[str, set[int]]


def collect(workspace: str, keep: int, grace_hours: float, dry_run: bool = False) -> list[Garbage]:
    """Delete what nothing needs; no run may work on the workspace meanwhile.

    Args:
        workspace: folder or URI.
        keep: published models, each with its last set, and newest artifacts of each kind, that stay with all that they
            were made from.
        grace_hours: what is younger stays.
        dry_run: only say what would go.

    Returns:
        What went, or would.
    """
    store, before = ArtifactStore(workspace), time.time() - 3600 * grace_hours
    reach = reached(store, keep)
    found = [*_artifacts(store, reach, before), *_drafts(store, before), *_training(store, before)]
    found += _shards(store, reach, before)
    found += _log_indexes(workspace, reach, before)
    found += _cached(store, reach, before)
    if not dry_run:
        for item in found:
            _delete(store, item)
        _forget_models(workspace, {key for kind, key in reach.whole if kind in ("stage1", "stage2")}, store)
    found += _vacuum(workspace, reach, grace_hours, dry_run)
    log(get_logger("gc"), "would delete" if dry_run else "deleted", items=len(found), bytes=sum(i.size for i in found))
    return found


def reached(store: ArtifactStore, keep: int) -> Reach:
    """Everything that the last published sets and the newest artifacts of each kind stand on."""
    roots: list[Node] = []
    for champion in _last_sets(store.workspace, keep):
        roots += champion.items()
    for kind in KINDS:
        roots += [(kind, str(manifest["key"])) for manifest in store.manifests(kind)[-keep:]]
    whole, lineage = _closure(store, roots)
    versions: dict[str, set[int]] = {}
    for kind, key in whole:
        if kind == "shards":
            continue  # it holds a copy of the table that it was made from
        manifest = store.lineage(kind, key)
        for table, version in (manifest or {}).get("tables", {}).items():
            versions.setdefault(table, set()).add(int(version))
    return Reach(whole, lineage, versions)


def _last_sets(workspace: str, keep: int) -> list[dict[str, str]]:
    """The last set of each of the last published models; a night may publish one model twice, with new songs."""
    sets: dict[str, dict[str, str]] = {}
    for champion in past_champions(workspace):
        sets.setdefault(champion.stage2, champion.keys)
    return list(sets.values())[:keep]


class _Stays(IntEnum):
    """How much of an artifact stays."""

    LINEAGE = 0  # its manifest
    ALONE = 1  # its files, of what it was made from the manifests
    WITH_ORIGINS = 2  # its files, and those of what it was made from


def _closure(store: ArtifactStore, roots: Iterable[Node]) -> tuple[set[Node], set[Node]]:
    """Artifacts whose files stay, and those of which only the manifest does."""
    found: dict[Node, _Stays] = {}
    waiting = [(node, _Stays.WITH_ORIGINS) for node in roots]
    while waiting:
        node, stays = waiting.pop()
        manifest = store.lineage(*node)
        if manifest is None or found.get(node, -1) >= stays:
            continue
        found[node] = stays
        for name, key in manifest["inputs"].items():
            kind = "answers" if node[0] == "report_card" else _PARENT.get(name, name)
            if kind in KINDS:  # others are fingerprints of raw inputs
                waiting.append(((kind, str(key)), _stays(stays, node[0], name)))
    whole = {node for node, stays in found.items() if stays is not _Stays.LINEAGE}
    return whole, found.keys() - whole


def _stays(parent: _Stays, kind: str, name: str) -> _Stays:
    """How much of an input stays with what was made from it."""
    if parent is _Stays.WITH_ORIGINS and name not in _PARENT:
        return _Stays.WITH_ORIGINS
    # What a forefather was trained on keeps those songs out of the evaluation.
    return _Stays.ALONE if kind in ("stage1", "stage2") and name == "shards" else _Stays.LINEAGE


def _artifacts(store: ArtifactStore, reach: Reach, before: float) -> Iterator[Garbage]:
    for kind in KINDS:
        for manifest in store.manifests(kind):
            node = (kind, str(manifest["key"]))
            if node not in reach.whole and _created(manifest) < before:
                size = sum(manifest["files"].values())
                yield Garbage(kind, node[1], store.uri(*node), size, lineage=node in reach.lineage)


def _drafts(store: ArtifactStore, before: float) -> Iterator[Garbage]:
    """Folders that a killed run left: hidden ones of a local workspace, attempts beside no manifest elsewhere."""
    for kind in KINDS:
        root = storage.join(store.workspace, "artifacts", kind)
        for name in storage.list_folder(root):
            uri = storage.join(root, name)
            if name.startswith(".") or not store.published(kind, name):
                yield from _if_old("draft", f"{kind}/{name}", uri, before)
            elif not storage.is_local(uri):
                counts = store.manifest(kind, name)["folder"]
                for attempt in storage.list_folder(uri):
                    if attempt not in (counts, MANIFEST):
                        yield from _if_old("draft", f"{kind}/{name}/{attempt}", storage.join(uri, attempt), before)


def _training(store: ArtifactStore, before: float) -> Iterator[Garbage]:
    """Checkpoints of runs that were given up: another run of the stage was at work later."""
    root = storage.join(store.workspace, "training")
    ages = {name: storage.size_and_age(storage.join(root, name))[1] for name in storage.list_folder(root)}
    for name, age in ages.items():
        stage = name.partition("-")[0]
        later = [other for other, its in ages.items() if other.partition("-")[0] == stage and its > age]
        trained = [model for model in store.manifests(stage) if _created(model) > age] if stage in KINDS else []
        if later or trained:
            yield from _if_old("checkpoints", name, storage.join(root, name), before)


def _shards(store: ArtifactStore, reach: Reach, before: float) -> Iterator[Garbage]:
    """Shards that no kept index points to."""
    table, needed = index_table(store.workspace), set()
    if table.exists():
        needed.update(pc.unique(table.read(columns=["shard"])["shard"]).to_pylist())
    for kind, key in reach.whole:
        if kind == "shards" and store.published(kind, key):
            needed.update(pc.unique(read_index(store.fetch(kind, key))["shard"]).to_pylist())
    folder = shard_folder(store.workspace)
    for name in storage.list_folder(folder):
        if name not in needed:
            yield from _if_old("shard", name, storage.join(folder, name), before)


def _log_indexes(workspace: str, reach: Reach, before: float) -> Iterator[Garbage]:
    """Lists of counted files that no kept version of the counts names."""
    table = pair_table(workspace)
    if not table.exists():
        return
    versions = {*reach.versions.get(table.name, ()), table.version()}
    there = [version for version in versions if table.has_version(version)]
    needed = {f"{table.properties(version).get(FILES)}.parquet" for version in there}
    folder = index_folder(workspace)
    for name in storage.list_folder(folder):
        if name not in needed:
            yield from _if_old("list of counted files", name, storage.join(folder, name), before)


def _cached(store: ArtifactStore, reach: Reach, before: float) -> Iterator[Garbage]:
    """Copies of artifacts of this workspace on this host."""
    if storage.is_local(store.workspace):
        return
    kept = {cached_name(store, kind, key) for kind, key in reach.whole if store.published(kind, key)}
    for place in sorted(cache_folder(store.workspace).iterdir()):
        if place.is_dir() and place.name not in kept:
            yield from _if_old("local copy", place.name, str(place), before)


def _vacuum(workspace: str, reach: Reach, grace_hours: float, dry_run: bool) -> Iterator[Garbage]:
    tables = [pair_table(workspace), quality_table(workspace), index_table(workspace), embeddings_table(workspace)]
    tables += [refused_table(workspace), rejects_table(workspace)]
    for table in tables:
        versions = reach.versions.get(table.name, set())
        for path, size in table.collect(versions, grace_hours, dry_run).items():
            yield Garbage(f"file of table {table.name}", path, storage.join(table.uri, path), size)


def _forget_models(workspace: str, kept: set[str], store: ArtifactStore) -> None:
    """Take the embeddings of models out of the table whose weights are gone."""
    table = embeddings_table(workspace)
    there = {str(part.partition) for part in table.parts()}
    gone = {
        model for model in there - kept if not (store.published("stage1", model) or store.published("stage2", model))
    }
    if gone:
        table.commit([], replace=gone, properties=lambda newest: newest)


def _if_old(kind: str, name: str, uri: str, before: float) -> Iterator[Garbage]:
    size, newest = storage.size_and_age(uri)
    if newest < before:
        yield Garbage(kind, name, uri, size)


def _created(manifest: dict[str, Any]) -> float:
    return datetime.fromisoformat(manifest["created"]).astimezone(UTC).timestamp()


def _delete(store: ArtifactStore, item: Garbage) -> None:
    if item.kind in KINDS:
        store.discard(item.kind, item.name, keep_lineage=item.lineage)
    elif storage.is_local(item.uri) and (path := storage.local_path(item.uri)).is_dir():
        shutil.rmtree(path, ignore_errors=True)
        Path(f"{path}.lock").unlink(missing_ok=True)
    else:
        storage.remove_folder(item.uri)
