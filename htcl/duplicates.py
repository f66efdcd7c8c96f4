"""Tracks with equal audio share a split group, so that no song is trained on and asked for in the evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Grouping:
    """Split groups that hold together what sounds the same.

    Attributes:
        split_group: of each track [n]: the least name of the groups that became one.
        split: of each track [n]: the side of those groups; "train" where they lie on different ones, which takes the
            songs out of the evaluation.
        duplicates: tracks whose audio another track has, too.
        merged_groups: groups that were made of several.
    """

    split_group: pa.Array
    split: pa.Array
    duplicates: int
    merged_groups: int


def group_duplicates(split_group: pa.Array, split: pa.Array, content_hash: pa.Array) -> Grouping:
    """Merge the split groups of tracks with equal audio.

    Args:
        split_group: of each track [n], as in the catalog.
        split: the side of that group [n], from `htcl.split.split_of`.
        content_hash: hash of each track's audio [n].
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(split_group):
        return Grouping(split_group, split, 0, 0)
    names, group = _codes(split_group)
    hashes, audio = _codes(content_hash)
    sides, side = _codes(split)
    edges = (np.ones(len(group), np.int8), (group, len(names) + audio))
    nodes = len(names) + len(hashes)
    count, component = connected_components(coo_array(edges, shape=(nodes, nodes)), directed=False)
    of_group = component[: len(names)]
    least = np.full(count, len(names))
    np.minimum.at(least, of_group, np.arange(len(names)))  # codes are in the order of the names
    lowest, highest = np.full(count, len(sides)), np.full(count, -1)
    np.minimum.at(lowest, component[group], side)
    np.maximum.at(highest, component[group], side)
    sides = pa.concat_arrays([sides, pa.array(["train"], sides.type)])
    common = np.where(lowest == highest, lowest, len(sides) - 1)
    return Grouping(
        split_group=names.take(pa.array(least[component[group]])),
        split=sides.take(pa.array(common[component[group]])),
        duplicates=int((np.bincount(audio)[audio] > 1).sum()),
        merged_groups=int((np.bincount(of_group, minlength=count) > 1).sum()),
    )


def _codes(column: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, Int64]:
    """Different values in ascending order, and the place of each row's value among them."""
    values = pc.unique(column)
    values = values.take(pc.sort_indices(values))
    return values, np.asarray(pc.index_in(column, value_set=values)).astype(np.int64)
