"""Pairs of baskets, counted per day: additive counts, fixed-point weights, bottom-k user sketches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from htcl.pairs.baskets import MICROSECONDS_A_DAY, Baskets, Events, Int64, run_starts

WEIGHT_ONE = 2**20
"""Unit of the fixed-point weights: sums are exact in any order."""

SKETCH_SIZE = 64
"""k of the bottom-k sketch: distinct users are exact below it."""


@dataclass(frozen=True)
class PairCounts:
    """Counts per (day, anchor, positive), [n] rows; the sketches lie end to end.

    Attributes:
        day: days since 1970.
        anchor: catalog code.
        positive: catalog code.
        n_baskets: baskets that hold the pair.
        weight: in units of 1/WEIGHT_ONE.
        users: all sketches, ascending within a row.
        offsets: where each row's sketch starts [n + 1].
    """

    day: Int64
    anchor: Int64
    positive: Int64
    n_baskets: Int64
    weight: Int64
    users: Int64
    offsets: Int64


def copreference_pairs(baskets: Baskets) -> PairCounts:
    """Count unordered pairs of each basket, anchor < positive, each with weight 1/(n-1)."""
    starts = np.cumsum(baskets.size) - baskets.size
    anchors, positives, owners = [], [], []
    for n in np.unique(baskets.size[baskets.size > 1]):
        members = np.flatnonzero(baskets.size == n)
        rows = baskets.track[starts[members, None] + np.arange(n)]
        left, right = np.triu_indices(int(n), k=1)
        anchors.append(rows[:, left].ravel())
        positives.append(rows[:, right].ravel())
        owners.append(np.repeat(members, len(left)))
    if not owners:
        return _count(*(np.zeros(0, dtype=np.int64) for _ in range(5)))
    owner = np.concatenate(owners)
    weight = np.rint(WEIGHT_ONE / np.maximum(baskets.size - 1, 1)).astype(np.int64)
    return _count(
        baskets.day[owner], np.concatenate(anchors), np.concatenate(positives), weight[owner], baskets.user[owner]
    )


def triggered_pairs(events: Events, numbers: Int64) -> PairCounts:
    """Count pairs (trigger, song) once a basket, with weight 1 (the paper's triplet)."""
    rows = np.flatnonzero((events.trigger >= 0) & (events.trigger != events.track))
    hits, baskets = events.take(rows), numbers[rows]
    order = np.lexsort((hits.ts, hits.track, hits.trigger, baskets))
    order = order[run_starts(baskets[order], hits.trigger[order], hits.track[order])]
    once = hits.take(order)
    weight = np.full(len(order), WEIGHT_ONE, dtype=np.int64)
    return _count(once.ts // MICROSECONDS_A_DAY, once.trigger, once.track, weight, once.user)


def item_counts(baskets: Baskets) -> tuple[Int64, Int64, Int64, Int64]:
    """Count baskets per (day, song).

    Returns:
        (day, track, n_baskets, weight), each [n]; a basket of n songs gives each 1/n.
    """
    day = baskets.day[baskets.basket]
    weight = np.rint(WEIGHT_ONE / baskets.size[baskets.basket]).astype(np.int64)
    order = np.lexsort((baskets.track, day))
    starts = run_starts(day[order], baskets.track[order])
    counts = np.diff(np.append(starts, len(order))).astype(np.int64)
    sums = np.add.reduceat(weight[order], starts) if len(starts) else weight[:0]
    return day[order[starts]], baskets.track[order[starts]], counts, sums


def _count(day: Int64, anchor: Int64, positive: Int64, weight: Int64, user: Int64) -> PairCounts:
    order = np.lexsort((user, positive, anchor, day))
    day, anchor, positive, user = day[order], anchor[order], positive[order], user[order]
    starts = run_starts(day, anchor, positive)
    n_baskets = np.diff(np.append(starts, len(order))).astype(np.int64)
    sums = np.add.reduceat(weight[order], starts) if len(starts) else weight[:0]
    users, offsets = _sketches(user, starts)
    return PairCounts(day[starts], anchor[starts], positive[starts], n_baskets, sums, users, offsets)


def _sketches(user: Int64, starts: npt.NDArray[np.intp]) -> tuple[Int64, Int64]:
    """The least `SKETCH_SIZE` distinct users of each run; users ascend within a run."""
    new = np.zeros(len(user), dtype=bool)
    new[1:] = user[1:] == user[:-1]
    new[starts] = False
    new = ~new
    before = np.cumsum(new) - 1
    lengths = np.diff(np.append(starts, len(user)))
    rank = before - np.repeat(before[starts], lengths)
    kept = new & (rank < SKETCH_SIZE)
    sizes = np.add.reduceat(kept.astype(np.int64), starts) if len(starts) else np.zeros(0, dtype=np.int64)
    return user[kept], np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def estimate_users(sketch_size: int, largest: int) -> int:
    """Distinct users behind a sketch.

    Args:
        sketch_size: hashes in the sketch.
        largest: the greatest of them, of 2**63 possible ones.

    Returns:
        The size itself below `SKETCH_SIZE`, else the bottom-k estimate (k - 1) / (k-th smallest, scaled to 1).
    """
    if sketch_size < SKETCH_SIZE:
        return sketch_size
    return round((SKETCH_SIZE - 1) / (largest / 2**63))
