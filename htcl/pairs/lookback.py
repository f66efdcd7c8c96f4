"""Pairs over days: a song together with what the same user responded to in the days before."""

from __future__ import annotations

import numpy as np

from htcl.pairs.baskets import Baskets
from htcl.pairs.counting import COPREFERENCE, Counts, count_pairs, empty_counts
from htcl.pairs.sorting import Int64, Rows, ranks, run_lengths, run_starts, sort_order


def lookback_pairs(baskets: Baskets, days: int, max_basket_size: int, symmetric: bool = True) -> Counts:
    """Pair each song of a user's day with the distinct songs of the `days` days before, once a day.

    Args:
        baskets: of all those days, whole.
        days: how far it looks back; the day itself is the baskets' matter.
        max_basket_size: of a longer history the latest songs are kept, of a longer day the first in catalog order.
        symmetric: the lesser song is the anchor; else the earlier one.

    Each song of the history has the weight 1/n of n songs. The counts belong to the later day.
    """
    user, day, track = _user_days(baskets)
    starts = run_starts(user, day)
    lengths = run_lengths(starts, len(user))
    history = _histories(user[starts], day[starts], starts, lengths, days)
    if history is None:
        return empty_counts()
    owner, row, age = history
    owner, earlier = _latest(owner, track[row], age, max_basket_size)
    filled = run_starts(owner)
    n = run_lengths(filled, len(owner))
    # Each song of the history with each song of the day.
    times = np.repeat(np.minimum(lengths[owner[filled]], max_basket_size), n)
    place = np.arange(int(times.sum())) - np.repeat(np.cumsum(times) - times, times)
    share, owner, earlier = (np.repeat(column, times) for column in (np.repeat(n, n), owner, earlier))
    song = track[starts[owner] + place]
    different = song != earlier
    anchor, positive, owner = earlier[different], song[different], starts[owner[different]]
    if symmetric:
        anchor, positive = np.minimum(anchor, positive), np.maximum(anchor, positive)
    return count_pairs(COPREFERENCE, day[owner], anchor, positive, share[different], user[owner])


def _user_days(baskets: Baskets) -> tuple[Int64, Int64, Int64]:
    """Distinct (user, day, song), sorted."""
    user, day = baskets.user[baskets.basket], baskets.day[baskets.basket]
    order = sort_order(ranks(user), day, baskets.track)
    order = order[run_starts(user[order], day[order], baskets.track[order])]
    return user[order], day[order], baskets.track[order]


def _histories(user: Int64, day: Int64, starts: Rows, lengths: Int64, days: int) -> tuple[Int64, Int64, Int64] | None:
    """(number of the user-day, row of its history, days between) for all rows of one user within `days` before it.

    Args:
        user: of each user-day.
        day: of each user-day.
        starts: first row of each.
        lengths: rows of each.
        days: how far it looks back.
    """
    owners, rows, ages = [], [], []
    for back in range(1, min(days, len(starts) - 1) + 1):
        # Days without a song are no rows, so a user-day looks at most `back` user-days back.
        near, far = np.arange(back, len(starts)), np.arange(len(starts) - back)
        age = day[near] - day[far]
        paired = (user[near] == user[far]) & (age <= days)
        near, far, age = near[paired], far[paired], age[paired]
        sizes = lengths[far]
        place = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        owners.append(np.repeat(near, sizes))
        rows.append(np.repeat(starts[far], sizes) + place)
        ages.append(np.repeat(age, sizes))
    if not owners:
        return None
    return np.concatenate(owners), np.concatenate(rows), np.concatenate(ages)


def _latest(owner: Int64, song: Int64, age: Int64, most: int) -> tuple[Int64, Int64]:
    """Each song of a history once, the `most` latest of them."""
    order = sort_order(owner, song, age)
    order = order[run_starts(owner[order], song[order])]
    order = order[sort_order(owner[order], age[order], song[order])]
    starts = run_starts(owner[order])
    rank = np.arange(len(order)) - np.repeat(starts, run_lengths(starts, len(order)))
    order = order[rank < most]
    return owner[order], song[order]
