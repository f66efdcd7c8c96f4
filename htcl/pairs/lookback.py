"""Pairs over days: a song together with what the same user responded to in the days before."""

from __future__ import annotations

import numpy as np

from htcl.pairs.baskets import Baskets
from htcl.pairs.counting import COPREFERENCE, Counts, count_pairs, empty_counts
from htcl.pairs.sorting import Int64, ranks, run_lengths, run_starts, sort_order


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
    if not len(user):
        return empty_counts()
    history = _histories(user, day, track, days)
    if history is None:
        return empty_counts()
    later, earlier, age = history
    later, earlier = _latest(later, track[earlier], age, max_basket_size)
    starts = run_starts(later)
    lengths = run_lengths(starts, len(later))
    share = np.repeat(lengths, lengths)
    song = track[later]
    different = song != earlier
    anchor, positive = earlier[different], song[different]
    if symmetric:
        anchor, positive = np.minimum(anchor, positive), np.maximum(anchor, positive)
    who, when, share = user[later][different], day[later][different], share[different]
    return count_pairs(COPREFERENCE, when, anchor, positive, share, who)


def _user_days(baskets: Baskets) -> tuple[Int64, Int64, Int64]:
    """Distinct (user, day, song), sorted."""
    user, day = baskets.user[baskets.basket], baskets.day[baskets.basket]
    order = sort_order(ranks(user), day, baskets.track)
    order = order[run_starts(user[order], day[order], baskets.track[order])]
    return user[order], day[order], baskets.track[order]


def _histories(user: Int64, day: Int64, track: Int64, days: int) -> tuple[Int64, Int64, Int64] | None:
    """(row of the day, row of the history, days between) for all rows of one user within `days`."""
    starts = run_starts(user, day)
    lengths = run_lengths(starts, len(user))
    later, earlier, ages = [], [], []
    for back in range(1, min(days, len(starts) - 1) + 1):
        # Days without a song are no rows, so a user-day looks at most `back` user-days back.
        near, far = np.arange(back, len(starts)), np.arange(len(starts) - back)
        age = day[starts[near]] - day[starts[far]]
        paired = (user[starts[near]] == user[starts[far]]) & (age <= days)
        near, far, age = near[paired], far[paired], age[paired]
        sizes = lengths[near] * lengths[far]
        place = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        width = np.repeat(lengths[far], sizes)
        later.append(np.repeat(starts[near], sizes) + place // np.maximum(width, 1))
        earlier.append(np.repeat(starts[far], sizes) + place % np.maximum(width, 1))
        ages.append(np.repeat(age, sizes))
    if not later:
        return None
    return np.concatenate(later), np.concatenate(earlier), np.concatenate(ages)


def _latest(later: Int64, song: Int64, age: Int64, most: int) -> tuple[Int64, Int64]:
    """Each song of a history once, the `most` latest of them."""
    order = sort_order(later, song, age)
    order = order[run_starts(later[order], song[order])]
    order = order[sort_order(later[order], age[order], song[order])]
    starts = run_starts(later[order])
    rank = np.arange(len(order)) - np.repeat(starts, run_lengths(starts, len(order)))
    order = order[rank < most]
    return later[order], song[order]
