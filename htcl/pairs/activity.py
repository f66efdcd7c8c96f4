"""Bots and shared accounts: users who are more active on a day than nearly all others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from htcl.pairs.baskets import POSITIVE, Events
from htcl.pairs.sorting import Int64, Rows, mixed, ranks, run_lengths, run_numbers, run_starts, sort_order

Histogram = dict[tuple[int, int], int]
"""(day, positive responses of a user on that day) -> users."""


def activity(events: Events) -> Histogram:
    """How many users had how many positive responses on each day; histograms of several parts add up."""
    rows, starts = _user_days(events)
    day, count = events.day[rows[starts]], run_lengths(starts, len(rows))
    order = sort_order(day, count)
    starts = run_starts(day[order], count[order])
    users = run_lengths(starts, len(order))
    keys = zip(day[order[starts]].tolist(), count[order[starts]].tolist(), strict=True)
    return dict(zip(keys, users.tolist(), strict=True))


def day_limits(histogram: Histogram, percentile: float) -> dict[int, int]:
    """Positive responses a day that `percentile` % of the day's users do not exceed (nearest rank)."""
    days: dict[int, list[tuple[int, int]]] = {}
    for (day, count), users in sorted(histogram.items()):
        days.setdefault(day, []).append((count, users))
    limits = {}
    for day, counted in days.items():
        counts, users = np.array(counted).T
        reached = np.cumsum(users) >= np.ceil(percentile / 100 * users.sum())
        limits[day] = int(counts[np.argmax(reached)])
    return limits


def without_heavy_users(
    events: Events, users: Int64, limits: dict[int, int], drop: bool
) -> tuple[Rows, dict[int, int]]:
    """Rows that stay when the days of users with more positive responses than the limit are thinned or dropped.

    Args:
        events: with every event of a (user, day) that has one here.
        users: keyed hashes that the events' users are places in.
        limits: from `day_limits`.
        drop: whether a heavy user's day goes as a whole, with what was shown and refused; else as many positive
            responses as the limit stay, chosen by a hash of user and time, so that a heavy user counts no more than it.

    Returns:
        (rows that stay, day -> heavy users).
    """
    rows, starts = _user_days(events)
    lengths = run_lengths(starts, len(rows))
    day = events.day[rows[starts]]
    limit = np.array([limits.get(d, 0) for d in day.tolist()], dtype=np.int64)
    heavy = lengths > limit
    kept = np.ones(len(events.user), dtype=bool)
    if drop:
        kept[_of_same_day(events, rows[starts[heavy]])] = False
    else:
        number = run_numbers(starts, len(rows))
        rows, number = rows[heavy[number]], number[heavy[number]]
        chance = mixed(users[events.user[rows]], events.ts[rows])
        # After the chance whatever tells two responses apart, so that any order of the log keeps the same.
        order = np.lexsort((events.session[rows], events.trigger[rows], events.track[rows], chance, number))
        rank = np.arange(len(rows)) - run_starts(number)[run_numbers(run_starts(number), len(rows))]
        kept[rows[order][rank >= limit[number]]] = False
    days, n_users = np.unique(day[heavy], return_counts=True)
    return np.flatnonzero(kept), dict(zip(days.tolist(), n_users.tolist(), strict=True))


def _user_days(events: Events) -> tuple[Rows, Rows]:
    """Rows of positive responses by (user, day), and where each starts among them."""
    positive = np.flatnonzero(events.response == POSITIVE)
    user, day = ranks(events.user[positive]), events.day[positive]
    order = sort_order(user, day)
    return positive[order], run_starts(user[order], day[order])


def _of_same_day(events: Events, rows: Rows) -> npt.NDArray[np.bool_]:
    """Which events [n] are of the user and the day of one of some rows."""
    user_day = ranks(events.user) * (int(np.ptp(events.day)) + 1 if len(rows) else 1) + events.day
    return np.isin(user_day, user_day[rows])
