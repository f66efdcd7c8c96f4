"""Baskets: what one user responded to positively in one session of one day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from htcl.pairs.sorting import Int64, Rows, ranks, run_lengths, run_numbers, run_starts, sort_order, sorted_columns

MICROSECONDS_A_DAY = 86_400_000_000

POSITIVE, NEUTRAL, NEGATIVE, IMPRESSION = 1, 0, -1, 2
"""What an event says of its song; an impression only says that it was shown."""


@dataclass(frozen=True)
class Events:
    """Events as columns of equal length [n], ascending by (user, ts, track).

    Attributes:
        user: the user, by any number.
        session: hash of the session id; -1 where the log names none.
        ts: microseconds since 1970, UTC.
        track: code of the song; codes order as track ids do.
        trigger: code of the trigger song; -1 where there is none.
        response: POSITIVE, NEUTRAL, NEGATIVE or IMPRESSION.
    """

    user: Int64
    session: Int64
    ts: Int64
    track: Int64
    trigger: Int64
    response: npt.NDArray[np.int8]

    @property
    def day(self) -> Int64:
        """Days since 1970, UTC [n]."""
        return self.ts // MICROSECONDS_A_DAY

    def take(self, rows: Rows) -> Events:
        """The events at some rows, in that order."""
        numbers = (column[rows] for column in (self.user, self.session, self.ts, self.track, self.trigger))
        user, session, ts, track, trigger = numbers
        return Events(user, session, ts, track, trigger, self.response[rows])


@dataclass(frozen=True)
class Baskets:
    """Distinct songs of baskets, [n] rows sorted by (basket, track).

    Attributes:
        basket: number of the basket, from 0.
        track: code of the song.
        first: row of the event by which it was heard there first.
        day: days since 1970 of each basket [baskets].
        user: user of each basket [baskets].
        size: songs of each basket [baskets].
    """

    basket: Int64
    track: Int64
    first: Int64
    day: Int64
    user: Int64
    size: Int64


def basket_numbers(events: Events, session_gap_minutes: int) -> Int64:
    """Number the basket (user, session, day) of every event.

    Where the log names no session, one ends after `session_gap_minutes` without any event of the user.

    Returns:
        int64 [n], in the events' order; numbers are dense from 0.
    """
    n = len(events.user)
    named = (events.session >= 0).astype(np.int64)
    session, day = ranks(events.session), events.day
    if not named.all():
        # Of events without a session alone: in order of user and time, they are cut where the user was idle.
        rows = np.flatnonzero(named == 0)
        ts, user = events.ts[rows], events.user[rows]
        cut = np.ones(len(rows), dtype=bool)
        cut[1:] = (user[1:] != user[:-1]) | (ts[1:] - ts[:-1] > session_gap_minutes * 60_000_000)
        session = session.copy()
        session[rows] = np.cumsum(cut)
    order = sort_order(ranks(events.user), named, session, day)
    starts = run_starts(events.user[order], named[order], session[order], day[order])
    numbers = np.empty(n, dtype=np.int64)
    numbers[order] = run_numbers(starts, n)
    return numbers


def liked(events: Events, numbers: Int64) -> Rows:
    """Rows of positive events whose song got no negative response in the same basket."""
    positive = np.flatnonzero(events.response == POSITIVE)
    negative = np.flatnonzero(events.response == NEGATIVE)
    if not len(negative):
        return positive
    width = int(events.track.max(initial=0)) + 1
    refused = np.unique(numbers[negative] * width + events.track[negative])
    return positive[~np.isin(numbers[positive] * width + events.track[positive], refused)]


def form_baskets(events: Events, numbers: Int64, max_basket_size: int) -> Baskets:
    """Collect each basket's distinct songs; of a larger one the first `max_basket_size` heard are kept.

    Args:
        events: what counts for baskets.
        numbers: their baskets, from `basket_numbers`.
        max_basket_size: cap that bounds the pairs of one basket.
    """
    rows = np.arange(len(numbers), dtype=np.int64)
    basket, track, first = sorted_columns(numbers, events.track, rows)
    kept = run_starts(basket, track)
    basket, first = basket[kept], first[kept]
    kept = _first_heard(basket, first, max_basket_size)
    first = first[kept]
    starts = run_starts(numbers[first])
    size = run_lengths(starts, len(first))
    return Baskets(
        basket=run_numbers(starts, len(first)),
        track=events.track[first],
        first=first,
        day=events.day[first[starts]],
        user=events.user[first[starts]],
        size=size,
    )


def _first_heard(basket: Int64, first: Int64, most: int) -> Rows:
    """Rows of the `most` songs of each basket that were heard first, in their order."""
    starts = run_starts(basket)
    lengths = run_lengths(starts, len(basket))
    if not len(lengths) or lengths.max() <= most:
        return np.arange(len(basket))
    order = sort_order(basket, first)
    rank = np.arange(len(order)) - np.repeat(starts, lengths)
    return np.sort(order[rank < most])
