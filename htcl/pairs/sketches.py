"""Bottom-k sketches of users: the least k distinct hashes, exact below k, the same in any order of merging."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from htcl.pairs.sorting import Int64, Rows, run_lengths, run_starts, run_sums

SKETCH_SIZE = 64
"""k: distinct users are exact below it."""


def bottom_k(users: Int64, starts: Rows) -> tuple[Int64, Int64]:
    """The sketch of each run of users.

    Args:
        users: keyed hashes [n], ascending within a run.
        starts: first row of each run [runs].

    Returns:
        All sketches end to end, and where each starts in them [runs + 1].
    """
    new = np.ones(len(users), dtype=bool)
    new[1:] = users[1:] != users[:-1]
    new[starts] = True
    before = np.cumsum(new) - 1
    rank = before - np.repeat(before[starts], run_lengths(starts, len(users)))
    kept = new & (rank < SKETCH_SIZE)
    sizes = run_sums(kept.astype(np.int64), starts)
    return users[kept], offsets_of(sizes)


def merge_sketches(users: Int64, offsets: Int64, starts: Rows) -> tuple[Int64, Int64]:
    """The union of the sketches of each run of rows.

    Args:
        users: sketches of all rows end to end.
        offsets: where each row's starts [rows + 1].
        starts: first row of each run [runs].

    Returns:
        As `bottom_k`, one sketch a run.
    """
    rows = len(offsets) - 1
    if len(starts) == rows:
        return users, offsets
    run = np.repeat(np.arange(len(starts), dtype=np.int64), run_lengths(starts, rows))
    owner = np.repeat(run, np.diff(offsets))
    several = run_lengths(starts, rows)[owner] > 1  # a sketch that stands alone is sorted already
    mixed = np.flatnonzero(several)
    users = users.copy()
    users[mixed] = users[mixed[np.lexsort((users[mixed], owner[mixed]))]]
    filled = run_starts(owner)
    kept, places = bottom_k(users, filled)
    sizes = np.zeros(len(starts), dtype=np.int64)
    sizes[owner[filled]] = np.diff(places)
    return kept, offsets_of(sizes)


def offsets_of(sizes: Int64) -> Int64:
    """Where lists of these sizes start when they lie end to end [n + 1]."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def count_users(users: Int64, offsets: Int64) -> Int64:
    """Distinct users behind each sketch [rows]: exact below k, else the bottom-k estimate.

    The estimate is (k - 1) / (k-th least hash, of 2**63 possible ones, scaled to 1).
    """
    sizes: npt.NDArray[np.int64] = np.diff(offsets)
    found = sizes.copy()
    full = np.flatnonzero(sizes >= SKETCH_SIZE)
    largest = users[offsets[full + 1] - 1]
    found[full] = np.rint((SKETCH_SIZE - 1) / (largest / 2.0**63)).astype(np.int64)
    return found
