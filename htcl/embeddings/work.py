"""What brings the embeddings table up to date with the songs, cut into tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htcl.artifacts import ArtifactStore
from htcl.ingest.catalog import read_catalog
from htcl.parts import Part
from htcl.schemas import embeddings_schema
from htcl.shards.index import read_index, rows_of
from htcl.tables import GrowingTable
from htcl.text import metadata_text, model_text_fields, text_hash

BYTES_PER_TASK = 1 << 30
"""Log-mels that a task embeds at most, and a killed one repeats: some 3,400 songs of two minutes."""
ROWS_PER_FILE = 100_000
"""Most rows of a file into which kept rows are written anew, about 80 MB."""
MADE_BY = "step_versions"
"""Property of a commit: by which version of the step each model's rows were made."""
_TEXTS = 100_000
_PLACE = ["track_id", "shard", "offset", "size", "content_hash"]


@dataclass(frozen=True)
class Model:
    """A published model: its step and its key.

    Only stage 2 reads the text when it embeds a song.
    """

    stage: str
    key: str

    @property
    def identity(self) -> list[str]:
        """Columns that say which song, in which state, a row of this model stands for."""
        return ["track_id", "content_hash", *(["text_hash"] if self.reads_text else [])]

    @property
    def reads_text(self) -> bool:
        """Whether the embedding of a song hangs on its text."""
        return self.stage == "stage2"


@dataclass(frozen=True)
class Work:
    """What brings a model's rows up to date.

    Attributes:
        missing: songs without a row, in the order of their bytes in the shards.
        gone: identities of rows that stand for no song any more.
        kept: rows that stay.
    """

    missing: pa.Table
    gone: pa.Array
    kept: int


def embeddings_table(workspace: str, dim: int = 1) -> GrowingTable:
    """The table; whoever only reads or commits need not know the width, which each model has its own of."""
    return GrowingTable(workspace, "embeddings", embeddings_schema(dim), partition_by="model_id")


def read_songs(store: ArtifactStore, inputs: dict[str, str]) -> pa.Table:
    """The songs of the index, with the text that stage 2 reads and its hash.

    Args:
        store: of the workspace.
        inputs: keys of catalog, shards and stage2.

    Returns:
        track_id, shard, offset, size, content_hash, text, text_hash.
    """
    index = read_index(store.fetch("shards", inputs["shards"])).select(_PLACE)
    fields = model_text_fields(store.fetch("stage2", inputs["stage2"]))
    catalog = read_catalog(store.fetch("catalog", inputs["catalog"]), list(dict.fromkeys(["track_id", *fields])))
    places, texts, hashes = rows_of(catalog, index["track_id"]), [], []
    for start in range(0, len(places), _TEXTS):  # as Python objects a whole catalog takes ten times its bytes
        rows = catalog.take(pa.array(places[start : start + _TEXTS])).select(fields).to_pylist()
        block = [metadata_text(row, fields) for row in rows]
        texts.append(pa.array(block, pa.string()))
        hashes.append(pa.array(map(text_hash, block), pa.string()))
    for name, chunks in (("text", texts), ("text_hash", hashes)):
        index = index.append_column(name, pa.chunked_array(chunks, pa.string()))
    return index


def find_work(
    table: GrowingTable,
    version: int,
    model: Model,
    songs: pa.Table,
    step_version: int,
    wanted_tracks: pa.Array | None = None,
) -> Work:
    """Hold a model's rows in a version of the table (-1: none yet) against the songs.

    Rows that were made by another version of the step, or by one that nobody noted, stand for no song.

    Args:
        table: of embeddings.
        version: of it.
        model: whose rows.
        songs: all that are embedded sooner or later (`read_songs`).
        step_version: by which rows are to be made.
        wanted_tracks: ids of the songs whose rows may be missing; all where not given.
    """
    rows, outdated = table.schema.empty_table(), False
    if version >= 0:
        rows = table.read(version, model.identity, pc.field("model_id") == model.key)
        outdated = table.properties(version).get(MADE_BY, {}).get(model.key) != step_version
    found, wanted = identities(rows, model), identities(songs, model)
    stands = wanted.slice(0, 0) if outdated else wanted
    kept = pc.is_in(found, value_set=stands)
    missing = songs.filter(pc.invert(pc.is_in(wanted, value_set=found.filter(kept))))
    if wanted_tracks is not None:
        missing = missing.filter(pc.is_in(missing["track_id"], value_set=wanted_tracks))
    # Songs of equal audio share a place; in another order the last bits of their embeddings could differ.
    missing = missing.sort_by([("shard", "ascending"), ("offset", "ascending"), ("track_id", "ascending")])
    gone = found.filter(pc.invert(kept))
    return Work(missing, gone.combine_chunks(), len(found) - len(gone))


def note_versions(table: GrowingTable, models: Sequence[Model], step_version: int) -> dict[str, dict[str, int]]:
    """What a commit of some models' rows notes: by which step version these, and all others that stay, were made."""
    there = {part.partition for part in table.parts()}
    noted = {key: made for key, made in table.properties().get(MADE_BY, {}).items() if key in there}
    return {MADE_BY: noted | {model.key: step_version for model in models}}


def song_groups(missing: pa.Table, tasks: int) -> list[bytes]:
    """Cut songs into groups of neighbours in the shards that take about as long, `tasks` of them or more.

    Returns:
        Arrow streams for `embed_group`: what a task needs to know travels with it, not with every task.
    """
    options, groups = pa.ipc.IpcWriteOptions(compression="zstd"), []
    for first, last in _cut(missing["size"].to_numpy(), tasks, BYTES_PER_TASK):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, missing.schema, options=options) as writer:
            writer.write_table(missing.slice(first, last - first))
        groups.append(sink.getvalue().to_pybytes())
    return groups


def part_groups(parts: Sequence[Part], tasks: int) -> list[list[Part]]:
    """Cut files into groups for `rewrite_parts`, about `tasks` of them or more."""
    weights = np.array([part.rows for part in parts], np.int64)
    return [list(parts[first:last]) for first, last in _cut(weights, tasks, ROWS_PER_FILE)]


def identities(rows: pa.Table, model: Model) -> pa.ChunkedArray:
    """What each row stands for, as one text: which song, in which state."""
    return pc.binary_join_element_wise(*(rows[name] for name in model.identity), "\n")


def _cut(weights: npt.NDArray[np.int64], tasks: int, most: int) -> list[tuple[int, int]]:
    """Cut a sequence into about `tasks` runs [first, last) of equal weight, more where one would weigh over `most`."""
    if not len(weights):
        return []
    target = max(1, min(most, math.ceil(weights.sum() / tasks)))
    group = (np.cumsum(weights) - weights) // target
    ends = [*np.flatnonzero(np.diff(group)) + 1, len(weights)]
    return [(int(first), int(last)) for first, last in zip([0, *ends], ends, strict=False)]
