"""The shard index as a memory-mapped file: row numbers stand for tracks, no list of ids in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htcl.schemas import SHARDS

INDEX_FILE = "index.arrow"


def write_index(rows: pa.Table, folder: Path) -> None:
    """Write the index of one table version, sorted by track_id, as an Arrow file."""
    rows = rows.select(SHARDS.names).cast(SHARDS).sort_by("track_id").combine_chunks()
    with pa.ipc.new_file(folder / INDEX_FILE, SHARDS) as writer:
        writer.write_table(rows)


def read_index(folder: Path) -> pa.Table:
    """Map the index of a shards artifact into memory; rows are sorted by track_id."""
    with pa.memory_map(str(folder / INDEX_FILE)) as source:
        return pa.ipc.open_file(source).read_all()


def rows_of(table: pa.Table, track_ids: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.int64]:
    """Row numbers of tracks in a table with a column track_id; -1 where it has no such track."""
    found = pc.index_in(track_ids, value_set=table["track_id"])
    return np.asarray(pc.fill_null(found, -1)).astype(np.int64)
