"""The shards as they are, and what has to be done to bring them up to the catalog."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig, fingerprint
from htcl.ingest.catalog import read_catalog
from htcl.plan import Step, audio_root
from htcl.schemas import SHARDS
from htcl.shards.work import Work, find_work, limits_of, refused_table, tagged
from htcl.tables import GrowingTable

SETTINGS = "settings"
"""Property of a commit of the index: what its log-mels hang on."""


@dataclass(frozen=True)
class Index:
    """The index table: the memory of runs. Readers take the index of a published artifact.

    Attributes:
        table: the growing table.
        base: its version; -1 before the first commit.
        current: its rows, none where they were made by other settings.
        settings: those of today.
        outdated: whether its rows were made by other settings.
    """

    table: GrowingTable
    base: int
    current: pa.Table
    settings: str
    outdated: bool


def read_index_table(config: PipelineConfig, step: Step) -> Index:
    """The index table as it is.

    Args:
        config: of the workspace.
        step: shards, as it is planned.
    """
    table = index_table(config.workspace)
    settings = fingerprint([step.recipe.step_version, step.recipe.section["audio"]])
    base = table.version()
    outdated = base >= 0 and table.properties(base).get(SETTINGS) != settings
    rows = SHARDS.empty_table() if outdated or base < 0 else table.read(base).cast(SHARDS)
    return Index(table, base, rows, settings, outdated)


def index_table(workspace: str) -> GrowingTable:
    """The index of all shards."""
    return GrowingTable(workspace, "shards", SHARDS)


def work_of(config: PipelineConfig, step: Step, index: Index) -> Work:
    """Hold the catalog, its audio files and what was refused before against the index.

    Args:
        config: of the workspace.
        step: shards, as it is planned; its catalog is published.
        index: from `read_index_table`.
    """
    catalog = read_catalog(ArtifactStore(config.workspace).fetch("catalog", step.recipe.inputs["catalog"]))
    catalog = tagged(catalog, storage.list_files(audio_root(config), hidden=True), index.settings)
    refused = refused_table(config.workspace).read()
    return find_work(catalog, index.current, refused, list(shard_sizes(config.workspace)), limits_of(config))


def shard_folder(workspace: str) -> str:
    """Where shards lie."""
    return storage.join(workspace, "shards")


def shard_sizes(workspace: str) -> dict[str, int]:
    """Bytes of every shard that is there, by name."""
    folder = shard_folder(workspace)
    if not storage.exists(folder):
        return {}
    return {name: size for name, (size, _) in storage.list_files(folder).items()}
