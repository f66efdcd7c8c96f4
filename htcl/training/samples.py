"""What a stage trains on: songs or pairs as rows of the shard index, and which songs are no negatives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from htcl.errors import HTCLError
from htcl.pairs import KNOWN_FOLDER, PAIRS_FOLDER
from htcl.shards.index import rows_of
from htcl.shards.order import Int64

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class KnownPairs:
    """The preference graph between split groups, in compressed rows: who is known to go with whom.

    Attributes:
        indptr: where the neighbours of each group begin [groups + 1].
        neighbours: groups, ascending within a row.
    """

    indptr: Int64
    neighbours: Int32

    @staticmethod
    def of(pairs: Int64, groups: int) -> KnownPairs:
        """From pairs of groups [n, 2], in any direction and as often as they come."""
        both = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
        return KnownPairs(np.searchsorted(both[:, 0], np.arange(groups + 1)), both[:, 1].astype(np.int32))

    def among(self, rows: Int64, columns: Int64) -> Int64:
        """Where a row's group and a column's group are neighbours.

        Args:
            rows: groups [r].
            columns: groups [c].

        Returns:
            (row, column) positions [n, 2].
        """
        starts, degrees = self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows]
        row = np.repeat(np.arange(len(rows)), degrees)
        neighbour = self.neighbours[_ranges(starts, degrees)]
        order = np.argsort(columns, kind="stable")
        first, last = (np.searchsorted(columns[order], neighbour, side) for side in ("left", "right"))
        found = last - first
        return np.stack([np.repeat(row, found), order[_ranges(first, found)]], axis=1)


def _ranges(starts: Int64, lengths: Int64) -> Int64:
    """Concatenation of [start, start + length) for each entry."""
    before = np.cumsum(lengths) - lengths
    found: Int64 = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return found


@dataclass(frozen=True)
class Samples:
    """What a stage trains on.

    Attributes:
        songs: index rows: [n, 1] songs in stage 1, [n, 2] anchor and positive in stage 2.
        blocks: shard of each sample's first song [n], numbered from 0.
        frames: log-mel frames of each index row.
        groups: number of each index row's split group.
        known: pairs of groups known to be positive, before any top-K; None where nothing is masked by them.
    """

    songs: Int64
    blocks: Int64
    frames: Int32
    groups: Int32
    known: KnownPairs | None = None

    def log_q(self) -> Float32:
        """Log probability that a sample's place [1 or 2] holds a song [index rows, 1 or 2]: an epoch is a permutation.

        The probability of a song that no sample has is that of half a sample, so that it stays finite.
        """
        counts = [np.bincount(column, minlength=len(self.frames)) for column in self.songs.T]
        return np.log(np.maximum(np.stack(counts, axis=1), 0.5) / len(self.songs)).astype(np.float32)


def stage1_samples(index: pa.Table) -> Samples:
    """Every song of the training side."""
    rows = np.flatnonzero(np.asarray(pc.equal(index["split"], "train"))).astype(np.int64)
    return Samples(rows[:, None], _codes(index["shard"])[rows].astype(np.int64), _frames(index), _groups(index))


def stage2_samples(index: pa.Table, pairs_folder: Path, with_known: bool = True) -> Samples:
    """Every training pair whose two songs have audio, in the order of their ids.

    Args:
        index: of the shards.
        pairs_folder: the pairs artifact.
        with_known: read the known pairs too, which masks need.

    Raises:
        HTCLError: when a pair of the training side touches a held-out song: the split leaks.
    """
    pairs = ds.dataset(pairs_folder / PAIRS_FOLDER, format="parquet").to_table(
        columns=["anchor_id", "positive_id"], filter=pc.field("split") == "train"
    )
    # A pair may come from both sources; it is one sample.
    pairs = pairs.group_by(["anchor_id", "positive_id"]).aggregate([])
    songs = _index_rows(index, pairs.sort_by([("anchor_id", "ascending"), ("positive_id", "ascending")]))
    sides = np.asarray(index["split"]).astype(str)
    if len(songs) and (sides[songs] != "train").any():
        raise HTCLError("pairs and shards disagree about the split; run the pipeline again from the catalog")
    groups = _groups(index)
    graph = None
    if with_known:
        known = ds.dataset(pairs_folder / KNOWN_FOLDER, format="parquet").to_table(columns=["anchor_id", "positive_id"])
        graph = KnownPairs.of(groups[_index_rows(index, known)].astype(np.int64), int(groups.max(initial=-1)) + 1)
    blocks = _codes(index["shard"])[songs[:, 0]].astype(np.int64)
    return Samples(songs, blocks, _frames(index), groups, graph)


def _index_rows(index: pa.Table, pairs: pa.Table) -> Int64:
    """Rows of both songs of each pair [n, 2]; pairs without audio are left out."""
    songs = np.stack([rows_of(index, pairs["anchor_id"]), rows_of(index, pairs["positive_id"])], axis=1)
    return songs[(songs >= 0).all(axis=1)]


def _groups(index: pa.Table) -> Int32:
    return _codes(index["split_group"])


def _frames(index: pa.Table) -> Int32:
    return np.asarray(index["frames"]).astype(np.int32)


def _codes(column: pa.ChunkedArray) -> Int32:
    """Number of each value, by first appearance."""
    return np.asarray(pc.dictionary_encode(column.combine_chunks()).indices).astype(np.int32)
