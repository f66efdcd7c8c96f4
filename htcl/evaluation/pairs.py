"""Held-out pairs of a snapshot as queries over the catalog's rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.dataset as ds

from htcl.evaluation.metrics import RowSets
from htcl.evaluation.recommendation import Queries
from htcl.evaluation.results import Split
from htcl.pairs import KNOWN_FOLDER, PAIRS_FOLDER

Int64 = npt.NDArray[np.int64]


def held_out_queries(pairs: Path, split: Split, tracks: list[str], sides: npt.NDArray[np.str_]) -> Queries | None:
    """The queries of a split.

    Cold and validation: anchors that no training saw, all their positives, among all songs. Warm: training songs,
    positives first seen after the cut-off, among the training songs; the positives of training are not offered.

    Args:
        pairs: folder of the pairs artifact.
        split: cold, validation or warm.
        tracks: candidates, by row [n].
        sides: side of the split of each candidate [n].

    Returns:
        The queries, or None where the split has no pair.
    """
    place = {track: row for row, track in enumerate(tracks)}
    found = _rows(pairs / PAIRS_FOLDER, place, pc.field("split") == _PAIR_SPLITS[split])
    offered = np.asarray(sides == "train") if split == "warm" else np.ones(len(tracks), bool)
    found = found[(sides[found[:, 0]] == _SIDES[split]) & offered[found[:, 1]]]
    if not len(found):
        return None
    anchors, relevant = _grouped(found)
    known = np.zeros((0, 2), np.int64)
    if split == "warm":
        once = _rows(pairs / KNOWN_FOLDER, place)
        known = np.unique(np.concatenate([once, once[:, ::-1]]), axis=0)
    first, last = (np.searchsorted(known[:, 0], anchors, side) for side in ("left", "right"))
    lists = [known[start:stop, 1] for start, stop in zip(first, last, strict=True)]
    indptr = np.concatenate([[0], np.cumsum([len(rows) for rows in lists])]).astype(np.int64)
    return Queries(offered, anchors, relevant, RowSets(indptr, np.concatenate(lists).astype(np.int64)))


_PAIR_SPLITS = {"cold": "test_cold", "warm": "test_warm", "validation": "validation"}
_SIDES = {"cold": "test", "warm": "train", "validation": "validation"}


def _rows(folder: Path, place: dict[str, int], chosen: pc.Expression | None = None) -> Int64:
    """Distinct (anchor, positive) rows of candidates [pairs, 2], sorted."""
    table = ds.dataset(folder, format="parquet").to_table(columns=["anchor_id", "positive_id"], filter=chosen)
    columns = [[place.get(track, -1) for track in table[name].to_pylist()] for name in table.column_names]
    found = np.array(columns, dtype=np.int64).T.reshape(-1, 2)
    return np.unique(found[(found >= 0).all(axis=1)], axis=0)


def _grouped(found: Int64) -> tuple[Int64, RowSets]:
    anchors, starts = np.unique(found[:, 0], return_index=True)
    return anchors, RowSets(np.append(starts, len(found)).astype(np.int64), found[:, 1].copy())
