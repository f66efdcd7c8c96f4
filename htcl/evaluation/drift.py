"""How far embeddings moved from one model to another, for who reads both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from htcl.evaluation.scorers import unit_rows

NEIGHBOURS = 10
QUERIES = 1000
"""Songs whose neighbours are looked at."""


@dataclass(frozen=True)
class Drift:
    """What became of the same songs.

    Attributes:
        songs: that both models embedded.
        moved: mean cosine distance as they stand.
        aligned: the same after the best rotation (orthogonal Procrustes): what no rotation explains.
        neighbour_overlap: mean share of a song's nearest neighbours that stayed.
    """

    songs: int
    moved: float
    aligned: float
    neighbour_overlap: float


def measure_drift(before: npt.ArrayLike, after: npt.ArrayLike) -> Drift:
    """Compare two embeddings of the same songs.

    Args:
        before: float [n, d], finite and not zero.
        after: float [n, e], row by row the same songs. The narrower one is filled up with zeros.
    """
    width = max(np.asarray(before).shape[1], np.asarray(after).shape[1])
    old, new = (_unit(vectors, width) for vectors in (before, after))
    left, _, right = np.linalg.svd(old.T @ new)
    rows = np.random.default_rng(0).permutation(len(old))[:QUERIES]
    return Drift(
        songs=len(old),
        moved=1 - float(np.mean(np.sum(old * new, axis=1))),
        aligned=1 - float(np.mean(np.sum((old @ (left @ right)) * new, axis=1))),
        neighbour_overlap=_overlap(old, new, rows),
    )


def _unit(vectors: npt.ArrayLike, width: int) -> npt.NDArray[np.float64]:
    unit = unit_rows(vectors).astype(np.float64)
    return np.pad(unit, ((0, 0), (0, width - unit.shape[1])))


def _overlap(old: npt.NDArray[np.float64], new: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> float:
    k = min(NEIGHBOURS, len(old) - 1)
    if k < 1:
        return 1.0
    shared = 0
    for row in rows:
        one, other = (_nearest(vectors, int(row), k) for vectors in (old, new))
        shared += len(np.intersect1d(one, other))
    return shared / (k * len(rows))


def _nearest(vectors: npt.NDArray[np.float64], row: int, k: int) -> npt.NDArray[np.intp]:
    scores = vectors @ vectors[row]
    scores[row] = -np.inf
    return np.argpartition(-scores, k - 1)[:k]
