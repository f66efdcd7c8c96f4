"""Which small leftovers among the shards are copied together into full ones."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64 = npt.NDArray[np.int64]

_BLOCK = 512
_END_BYTES = 10_240
"""Of a tar: zeros up to a multiple of this."""
_PLACE = ["shard", "offset"]
MOVED = ["track_id", *_PLACE, "size", "frames", "content_hash"]


def groups_to_copy(index: pa.Table, sizes: Mapping[str, int], max_bytes: int) -> list[pa.Table]:
    """Songs that belong into one new shard each time.

    A shard is small when what is used of it is less than half of `max_bytes`. Small shards are copied when there are
    several, or when most of one is not used any more. Copying again what this gave finds nothing to do.

    Args:
        index: rows of SHARDS.
        sizes: bytes of each shard.
        max_bytes: of a full shard.

    Returns:
        Rows of the index with the columns MOVED, one a payload; only the last group makes a small shard.
    """
    songs = index.select(MOVED).sort_by([(name, "ascending") for name in (*_PLACE, "track_id")])
    payloads = songs.group_by(_PLACE, use_threads=False).aggregate([("size", "first")])
    # What shares its bytes is copied once.
    first = pc.index_in(_places(payloads), value_set=_places(songs))
    songs = songs.take(first)
    songs = songs.append_column("bytes", pa.array(_footprint(songs["size"].to_numpy())))
    used = songs.group_by("shard").aggregate([("bytes", "sum")])
    pairs = zip(used["shard"].to_pylist(), used["bytes_sum"].to_pylist(), strict=True)
    small = {shard: live for shard, live in pairs if live < max_bytes / 2}
    dead = any(2 * live < sizes[shard] - _END_BYTES for shard, live in small.items())
    if len(small) < 2 and not dead:
        return []
    songs = songs.filter(pc.is_in(songs["shard"], value_set=pa.array(small, pa.string())))
    weights = songs["bytes"].to_numpy()
    group = (np.cumsum(weights) - weights) // max_bytes
    cuts = [0, *np.flatnonzero(np.diff(group)) + 1, len(songs)]
    return [songs.slice(a, b - a).select(MOVED) for a, b in pairwise(cuts)]


def moved(index: pa.Table, groups: list[pa.Table], places: pa.Table) -> pa.Table:
    """The index with the copied songs at their new places.

    Args:
        index: as given to `groups_to_copy`.
        groups: from there.
        places: columns shard and offset, where the songs of the groups are now, in their order.
    """
    if not groups:
        return index
    copied = pa.concat_tables(groups)
    row = np.asarray(pc.fill_null(pc.index_in(_places(index), value_set=_places(copied)), -1))
    for name in _PLACE:
        field = index.schema.field(name)
        there = places[name].take(pa.array(np.where(row < 0, 0, row)))
        place = index.schema.get_field_index(name)
        index = index.set_column(place, field, pc.if_else(pa.array(row >= 0), there, index[name]))
    return index


def _places(rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows["shard"], rows["offset"].cast(pa.string()), "/")


def _footprint(size: Int64) -> Int64:
    """Bytes that payloads take in a tar: each in whole blocks behind its header, then a header and a block of JSON."""
    return -(-size // _BLOCK) * _BLOCK + 3 * _BLOCK
