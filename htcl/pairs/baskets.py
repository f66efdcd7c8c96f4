"""Baskets: what one user responded to positively in one session of one day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

MICROSECONDS_A_DAY = 86_400_000_000


@dataclass(frozen=True)
class Events:
    """Events as columns of equal length [n].

    Attributes:
        user: keyed hash of the user.
        session: hash of the session id; -1 where the log names none.
        ts: microseconds since 1970, UTC.
        track: catalog code of the song; codes order as track ids do.
        trigger: catalog code of the trigger song; -1 where there is none.
    """

    user: Int64
    session: Int64
    ts: Int64
    track: Int64
    trigger: Int64

    def take(self, rows: npt.NDArray[np.intp]) -> Events:
        """The events at some rows, in that order."""
        return Events(*(column[rows] for column in (self.user, self.session, self.ts, self.track, self.trigger)))


@dataclass(frozen=True)
class Baskets:
    """Distinct songs of baskets, [n] rows sorted by (basket, track).

    Attributes:
        basket: number of the basket, from 0.
        track: catalog code.
        day: days since 1970 of each basket [baskets].
        user: user of each basket [baskets].
        size: songs of each basket [baskets].
    """

    basket: Int64
    track: Int64
    day: Int64
    user: Int64
    size: Int64


def run_starts(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.intp]:
    """First row of each run of equal values in columns that are sorted together."""
    if not len(columns[0]):
        return np.zeros(0, dtype=np.intp)
    change = np.zeros(len(columns[0]), dtype=bool)
    change[0] = True
    for column in columns:
        change[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(change)


def basket_numbers(events: Events, session_gap_minutes: int) -> Int64:
    """Number the basket (user, session, day) of every event.

    Where the log names no session, one ends after `session_gap_minutes` without any event of the user.

    Returns:
        int64 [n], in the events' order; numbers are dense from 0.
    """
    n = len(events.user)
    named = events.session >= 0
    order = np.lexsort((events.ts, named, events.user))
    ts, user = events.ts[order], events.user[order]
    cut = np.ones(n, dtype=bool)
    cut[1:] = (user[1:] != user[:-1]) | (ts[1:] - ts[:-1] > session_gap_minutes * 60_000_000)
    cut[1:] |= named[order][1:] != named[order][:-1]
    session = events.session.copy()
    unnamed = ~named[order]
    session[order[unnamed]] = np.cumsum(cut)[unnamed]
    day = events.ts // MICROSECONDS_A_DAY
    order = np.lexsort((day, session, named, events.user))
    starts = run_starts(events.user[order], named[order], session[order], day[order])
    numbers = np.zeros(n, dtype=np.int64)
    runs = np.zeros(n, dtype=np.int64)
    runs[starts] = 1
    numbers[order] = np.cumsum(runs) - 1
    return numbers


def form_baskets(events: Events, numbers: Int64, max_basket_size: int) -> Baskets:
    """Collect each basket's distinct songs; of a larger one the first `max_basket_size` heard are kept.

    Args:
        events: positive events.
        numbers: from `basket_numbers`.
        max_basket_size: cap that bounds the pairs of one basket.
    """
    order = np.lexsort((events.ts, events.track, numbers))
    first = order[run_starts(numbers[order], events.track[order])]
    first = first[np.lexsort((events.track[first], events.ts[first], numbers[first]))]
    starts = run_starts(numbers[first])
    rank = np.arange(len(first)) - np.repeat(starts, np.diff(np.append(starts, len(first))))
    first = first[rank < max_basket_size]
    first = first[np.lexsort((events.track[first], numbers[first]))]
    starts = run_starts(numbers[first])
    size = np.diff(np.append(starts, len(first))).astype(np.int64)
    return Baskets(
        basket=np.repeat(np.arange(len(starts), dtype=np.int64), size),
        track=events.track[first],
        day=events.ts[first[starts]] // MICROSECONDS_A_DAY,
        user=events.user[first[starts]],
        size=size,
    )
