"""All events of some users' days to counts: repeated events go, heavy users are bounded, baskets are paired."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from htcl.config import PairsConfig
from htcl.pairs.activity import without_heavy_users
from htcl.pairs.baskets import IMPRESSION, NEGATIVE, POSITIVE, Baskets, Events, basket_numbers, form_baskets, liked
from htcl.pairs.blocks import song_codes
from htcl.pairs.counting import Counts, add_up, concatenate, copreference_pairs, item_counts, take, triggered_pairs
from htcl.pairs.figures import repeated_rows
from htcl.pairs.lookback import lookback_pairs
from htcl.pairs.sorting import Int64, Rows, mixed, ranks, run_lengths, run_numbers, run_starts, sort_order


@dataclass(frozen=True)
class Part:
    """Distinct events of some users' days.

    Attributes:
        events: without repetitions; their users and sessions are places of the hashes in ascending order.
        songs: ids by code.
        users: keyed hashes by place.
        repeated: rows of SEEN for the repetitions.
    """

    events: Events
    songs: pa.Array
    users: Int64
    repeated: pa.Table


def distinct_events(rows: pa.Table) -> Part:
    """Drop events that repeat another: the same event id, or without one the same user, song and time.

    Args:
        rows: of EVENTS; whole days of users.
    """
    (track, trigger), songs = song_codes(rows["track"], rows["trigger"])
    hashes, session, ts = (np.asarray(rows[name], dtype=np.int64) for name in ("user", "session", "ts"))
    users, user = np.unique(hashes, return_inverse=True)
    # Places instead of hashes: in all that follows they are sorted several times faster.
    session = np.where(session < 0, -1, ranks(session))
    events = Events(user, session, ts, track, trigger, np.asarray(rows["response"], dtype=np.int8))
    file = np.asarray(rows["file"], dtype=np.int64)
    again = _repeated(events, np.asarray(rows["event"], dtype=np.int64), file)
    gone = np.flatnonzero(again)
    repeated = repeated_rows(file[gone], events.day[gone], songs.take(pa.array(track[gone])))
    kept = np.flatnonzero(~again)
    order = kept[sort_order(events.user[kept], ranks(events.ts)[kept], events.track[kept])]
    return Part(events.take(order), songs, users, repeated)


def _repeated(events: Events, event: Int64, file: Int64) -> npt.NDArray[np.bool_]:
    """Which events repeat another of the same day."""
    shown = (events.response == IMPRESSION).astype(np.int64)
    # Of a skip and a like in the same second the positive one stays, whichever came first, and of two plays that which
    # names its trigger and its session.
    told = (-events.trigger, -events.session)
    ties = (-events.response.astype(np.int64), events.ts, events.track, *told, file)
    repeated = np.zeros(len(event), dtype=bool)
    for rows, keys in (
        (np.flatnonzero(event), (events.user, events.day, ranks(event))),
        (np.flatnonzero(event == 0), (events.user, ranks(events.ts), events.track, shown)),
    ):
        again = _all_but_first([key[rows] for key in keys], [tie[rows] for tie in ties])
        repeated[rows[again]] = True
    return repeated


def _all_but_first(keys: list[Int64], ties: list[Int64]) -> Rows:
    """Rows that have the keys of another row which comes before them by the ties."""
    order = sort_order(*keys)
    starts = run_starts(*(key[order] for key in keys))
    run = run_numbers(starts, len(order))
    several = run_lengths(starts, len(order))[run] > 1
    order, run = order[several], run[several]
    inside = np.lexsort([*(tie[order] for tie in reversed(ties)), run])
    first = run_starts(run[inside])
    return np.delete(order[inside], first)


def count_events(
    part: Part, pairs: PairsConfig, limits: dict[int, int] | None, counted: npt.NDArray[np.bool_]
) -> tuple[Counts, dict[str, Int64]]:
    """Count pairs and songs of distinct events.

    Args:
        part: distinct events, whole days of users; with a look-back all of a user's days that matter.
        pairs: how baskets are cut and paired.
        limits: positive responses a day that heavy users are held to; None for no limit.
        counted: which events [n] lie on a day that is counted; the others are only looked back to.

    Returns:
        (counts of the days that are counted, step of the funnel -> day of each thing that counts as one).
    """
    events, heavy = part.events, np.zeros(0, dtype=np.int64)
    steps = {
        "positive_events": events.day[counted & (events.response == POSITIVE)],
        "negative_events": events.day[counted & (events.response == NEGATIVE)],
        "impressions": events.day[counted & (events.response == IMPRESSION)],
    }
    # Before anything is thinned out: every event keeps its session open.
    numbers = basket_numbers(events, pairs.session_gap_minutes)
    if limits is not None:
        rows, users = without_heavy_users(events, part.users, limits, pairs.heavy_users == "drop")
        days = set(np.unique(events.day[counted]).tolist())
        heavy = np.repeat(*(np.array(c, dtype=np.int64) for c in _columns(users, days)))
        events, counted, numbers = events.take(rows), counted[rows], numbers[rows]
    positive = liked(events, numbers)
    today = positive[counted[positive]]
    baskets = form_baskets(events.take(today), numbers[today], pairs.max_basket_size)
    every = baskets
    if len(today) < len(positive):
        every = form_baskets(events.take(positive), numbers[positive], pairs.max_basket_size)
    steps |= {"user_days": _user_days(baskets), "heavy_user_days": heavy, "baskets": baskets.day}
    kept = np.flatnonzero(counted)
    asked = np.flatnonzero(np.isin(kept, today))
    triggered = triggered_pairs(events.take(kept), numbers[kept], asked)
    counts = _counts(every, baskets, triggered, events, counted, pairs)
    return replace(counts, users=part.users[counts.users]), steps


def _counts(
    every: Baskets,
    baskets: Baskets,
    triggered: Counts,
    events: Events,
    counted: npt.NDArray[np.bool_],
    pairs: PairsConfig,
) -> Counts:
    symmetric = "copreference" in pairs.symmetric_sources
    inside = copreference_pairs(baskets, symmetric)
    parts = [item_counts(baskets), triggered]
    if not pairs.lookback_days:
        return concatenate([inside, *parts])
    over = lookback_pairs(every, pairs.lookback_days, pairs.max_basket_size, symmetric)
    days = np.unique(events.day[counted])
    return concatenate([add_up([inside, _of_days(over, days)]), *parts])


def _of_days(counts: Counts, days: Int64) -> Counts:
    return take(counts, np.flatnonzero(np.isin(counts.day, days)))


def _user_days(baskets: Baskets) -> Int64:
    order = sort_order(ranks(baskets.user), baskets.day)
    return baskets.day[order[run_starts(baskets.user[order], baskets.day[order])]]


def _columns(users: dict[int, int], days: set[int]) -> tuple[list[int], list[int]]:
    kept = {day: n for day, n in users.items() if day in days}
    return list(kept), list(kept.values())


def pair_buckets(counts: Counts, songs: pa.Array, buckets: int) -> Rows:
    """Bucket of each pair [n]: the same for both directions, on every machine, whatever the codes.

    Args:
        counts: the pairs.
        songs: ids by code.
        buckets: a power of two; the bucket of fewer buckets is this one modulo their number.
    """
    hashes = pd.util.hash_array(np.array(songs.to_pylist(), dtype=object), categorize=False).astype(np.int64)
    one, other = hashes[counts.anchor], hashes[counts.positive]
    spread = mixed(np.minimum(one, other), np.maximum(one, other))
    return (spread & np.uint64(buckets - 1)).astype(np.int64)
