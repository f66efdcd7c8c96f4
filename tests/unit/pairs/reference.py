"""Baskets, pairs and look-back in a few slow lines, over rows (user, session, ts, track, trigger, response)."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from htcl.pairs.baskets import IMPRESSION, NEGATIVE, NEUTRAL, POSITIVE, Events, basket_numbers, form_baskets, liked
from htcl.pairs.counting import COPREFERENCE, ITEM, TRIGGERED, WEIGHT_ONE

MINUTE, DAY = 60_000_000, 86_400_000_000
GAP = 30

# Times lie around two midnights, in steps of 10 minutes, so that gaps of exactly 30 minutes occur.
TIMES = st.integers(-12, 160).map(lambda tenth: 20_000 * DAY + tenth * 10 * MINUTE)
EVENT = st.tuples(
    st.integers(0, 3),
    st.sampled_from([-1, -1, 0, 5]),
    TIMES,
    st.integers(0, 6),
    st.integers(-1, 6),
    st.sampled_from([POSITIVE, POSITIVE, POSITIVE, NEUTRAL, NEGATIVE, IMPRESSION]),
)


def many(row, most=24):
    """Lists of rows of any length alike; left alone, hypothesis prefers lists of a few."""
    return st.integers(0, most).flatmap(lambda n: st.lists(row, min_size=n, max_size=n))


EVENTS = many(EVENT)


def columns(rows):
    """Rows in any order as events."""
    rows = sorted(rows, key=lambda row: (row[0], row[2], row[3]))
    table = np.array(rows, dtype=np.int64).reshape(-1, 6)
    return Events(*(table[:, column].copy() for column in range(5)), table[:, 5].astype(np.int8))


def baskets_of(rows, cap=100):
    """(events, numbers of their baskets, rows that please, baskets) by htcl.pairs.baskets."""
    events = columns(rows)
    numbers = basket_numbers(events, GAP)
    pleased = liked(events, numbers)
    return events, numbers, pleased, form_baskets(events.take(pleased), numbers[pleased], cap)


def basket_keys(rows):
    """The basket of each row: (user, session, day), a session without a name ending after 30 idle minutes."""
    keys, last, cut = {}, {}, Counter()
    for place in sorted(range(len(rows)), key=lambda i: rows[i][2]):
        user, session, ts, *_ = rows[place]
        if session >= 0:
            keys[place] = (user, "named", session, ts // DAY)
            continue
        cut[user] += ts - last.get(user, ts) > GAP * MINUTE
        last[user] = ts
        keys[place] = (user, "cut", cut[user], ts // DAY)
    return [keys[place] for place in range(len(rows))]


def pleasing(rows):
    """(basket, row) of each positive response to a song that got no negative one in that basket."""
    keyed = list(zip(basket_keys(rows), rows, strict=True))
    refused = {(key, row[3]) for key, row in keyed if row[5] == NEGATIVE}
    return [(key, row) for key, row in keyed if row[5] == POSITIVE and (key, row[3]) not in refused]


def songs_of_baskets(rows, cap):
    """Basket -> its first `cap` songs in the order in which they were heard, the lesser code first at one time."""
    first = defaultdict(dict)
    for key, (_, _, ts, track, *_) in pleasing(rows):
        first[key][track] = min(ts, first[key].get(track, ts))
    return {
        key: sorted(heard, key=lambda track, heard=heard: (heard[track], track))[:cap] for key, heard in first.items()
    }


def copreference(rows, cap, symmetric=True):
    """Counts of the pairs of each basket; directed ones lead from the song that was heard first."""
    return summed(
        (day, COPREFERENCE, *(sorted((one, other)) if symmetric else (one, other)), len(songs) - 1, user)
        for (user, _, _, day), songs in songs_of_baskets(rows, cap).items()
        for place, one in enumerate(songs)
        for other in songs[place + 1 :]
    )


def triggered(rows):
    """Counts of (trigger, song): baskets in which the song pleased, got a negative response, or was shown."""
    totals = {}
    keyed = list(zip(basket_keys(rows), rows, strict=True))
    for place, found in (
        (0, pleasing(rows)),
        (2, with_response(keyed, NEGATIVE)),
        (3, with_response(keyed, IMPRESSION)),
    ):
        for key, trigger, track in {(key, row[4], row[3]) for key, row in found}:
            if trigger < 0 or trigger == track:
                continue
            figures, users = totals.setdefault((key[3], TRIGGERED, trigger, track), ([0, 0, 0, 0], set()))
            figures[place] += 1
            if place == 0:
                figures[1] += WEIGHT_ONE
                users.add(key[0])
    return {key: (*figures, tuple(sorted(users))) for key, (figures, users) in totals.items()}


def with_response(keyed, response):
    """Those of (basket, row) with one response."""
    return [(key, row) for key, row in keyed if row[5] == response]


def items(rows, cap):
    """Counts of songs by their baskets; who heard them is not asked."""
    counted = summed(
        (day, ITEM, track, track, len(songs), user)
        for (user, _, _, day), songs in songs_of_baskets(rows, cap).items()
        for track in songs
    )
    return {key: (*figures, ()) for key, (*figures, _) in counted.items()}


def lookback(rows, days, cap, symmetric=True, basket_cap=100):
    """Counts of each song of a user's day with the latest songs that pleased the user in the days before."""
    heard = defaultdict(set)
    for (user, _, _, day), songs in songs_of_baskets(rows, basket_cap).items():
        heard[user, day].update(songs)
    found = []
    for (user, day), songs in heard.items():
        newest = {}
        for back in range(days, 0, -1):
            newest.update(dict.fromkeys(heard.get((user, day - back), ()), day - back))
        history = sorted(newest, key=lambda track, newest=newest: (-newest[track], track))[:cap]
        for song in sorted(songs)[:cap]:
            for earlier in history:
                if earlier != song:
                    pair = sorted((earlier, song)) if symmetric else (earlier, song)
                    found.append((day, COPREFERENCE, *pair, len(history), user))
    return summed(found)


def summed(found):
    """Reference counts out of (day, source, anchor, positive, n of the weight 1/n, user) of every occurrence."""
    totals = defaultdict(lambda: [0, 0, set()])
    for *key, share, user in found:
        total = totals[tuple(key)]
        total[0] += 1
        total[1] += round(WEIGHT_ONE / share)
        total[2].add(user)
    return {key: (n, weight, 0, 0, tuple(sorted(users))) for key, (n, weight, users) in totals.items()}


def as_dict(counts):
    """(day, source, anchor, positive) -> (figures, users); rows must come in that order, each once."""
    keys = list(zip(*(column.tolist() for column in counts.key), strict=True))
    assert keys == sorted(set(keys))
    assert counts.figures.shape == (4, len(keys)) and len(counts.offsets) == len(keys) + 1
    users = [tuple(counts.users[a:b].tolist()) for a, b in pairwise(counts.offsets)]
    return {key: (*figures, found) for key, figures, found in zip(keys, counts.figures.T.tolist(), users, strict=True)}
