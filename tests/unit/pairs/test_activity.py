"""Heavy users: the limit of a day by nearest rank, and exactly as many responses as it allows."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.pairs.activity import activity, day_limits, without_heavy_users
from htcl.pairs.baskets import IMPRESSION, NEGATIVE, NEUTRAL, POSITIVE
from tests.unit.pairs.reference import DAY, EVENTS, columns

moderate = settings(max_examples=30)
DAYS = (19_999, 20_000, 20_001)
HASHES = np.array([2**62, 5, 2**62 + 1, 77], dtype=np.int64)
"""Keyed hash of each of the four users."""


def user_days(rows):
    """(user, day) -> positive responses."""
    return Counter((row[0], row[2] // DAY) for row in rows if row[5] == POSITIVE)


def staying(rows, limits, drop=False, hashes=HASHES):
    """(events that stay, day -> heavy users)."""
    events = columns(rows)
    kept, heavy = without_heavy_users(events, hashes, limits, drop)
    assert kept.tolist() == sorted(set(kept.tolist()))
    return [as_row(events, place) for place in kept], heavy


def as_row(events, place):
    names = ("user", "session", "ts", "track", "trigger", "response")
    return tuple(int(getattr(events, name)[place]) for name in names)


@moderate
@given(EVENTS)
def test_the_histogram_counts_users_by_day_and_responses(rows):
    expected = Counter((day, n) for (_, day), n in user_days(rows).items())
    assert activity(columns(rows)) == expected


@moderate
@given(EVENTS)
def test_histograms_of_parts_of_the_users_add_up(rows):
    total = Counter()
    for user in range(4):
        total.update(activity(columns([row for row in rows if row[0] == user])))
    assert total == activity(columns(rows))


@pytest.mark.parametrize(
    ("percentile", "limit"),
    [(0.5, 1), (20, 1), (20.1, 2), (40, 2), (60, 3), (79, 4), (80, 4), (81, 50), (99.9, 50)],
)
def test_a_limit_is_the_least_count_that_enough_users_do_not_exceed(percentile, limit):
    histogram = {(9, 50): 1, (9, 3): 1, (9, 1): 1, (9, 4): 1, (9, 2): 1}
    assert day_limits(histogram, percentile) == {9: limit}


@moderate
@given(
    st.dictionaries(st.tuples(st.integers(0, 2), st.integers(1, 9)), st.integers(1, 20), max_size=12),
    st.floats(0.1, 99.9),
)
def test_limits_are_nearest_ranks_of_each_day(histogram, percentile):
    expected = {}
    for day in {day for day, _ in histogram}:
        counts = sorted(n for (d, n), users in histogram.items() if d == day for _ in range(users))
        enough = (n for place, n in enumerate(counts, start=1) if place >= percentile / 100 * len(counts))
        expected[day] = next(enough)
    assert day_limits(histogram, percentile) == expected


LIMITS = st.fixed_dictionaries(dict.fromkeys(DAYS, st.integers(1, 4)))


@moderate
@given(EVENTS, LIMITS)
def test_thinning_keeps_exactly_the_limit_and_all_other_events(rows, limits):
    kept, heavy = staying(rows, limits)
    before = user_days(rows)
    assert user_days(kept) == {key: min(n, limits[key[1]]) for key, n in before.items()}
    assert not Counter(kept) - Counter(rows)
    others = [row for row in rows if row[5] != POSITIVE]
    assert Counter(row for row in kept if row[5] != POSITIVE) == Counter(others)
    assert heavy == Counter(day for (_, day), n in before.items() if n > limits[day])


@moderate
@given(EVENTS, LIMITS, st.randoms(use_true_random=False))
def test_thinning_is_the_same_in_any_order_of_rows(rows, limits, random):
    shuffled = random.sample(rows, len(rows))
    assert Counter(staying(rows, limits)[0]) == Counter(staying(shuffled, limits)[0])


@moderate
@given(EVENTS, LIMITS)
def test_thinning_is_the_same_in_any_partition(rows, limits):
    kept, heavy, apart = [], Counter(), Counter()
    for user in range(4):
        # In a part of its own a user's place is another, the hash is not.
        alone = [(0, *row[1:]) for row in rows if row[0] == user]
        found, heavy = staying(alone, limits, hashes=HASHES[user : user + 1])
        kept += [(user, *row[1:]) for row in found]
        apart.update(heavy)
    whole, heavy = staying(rows, limits)
    assert Counter(kept) == Counter(whole) and apart == heavy


@moderate
@given(EVENTS, LIMITS)
def test_dropping_takes_whole_days_of_heavy_users_and_nothing_else(rows, limits):
    kept, heavy = staying(rows, limits, drop=True)
    gone = {key for key, n in user_days(rows).items() if n > limits[key[1]]}
    assert Counter(kept) == Counter(row for row in rows if (row[0], row[2] // DAY) not in gone)
    assert heavy == Counter(day for _, day in gone)


def test_what_was_shown_or_refused_does_not_make_a_user_heavy():
    rows = [(0, -1, 20_000 * DAY + n, n, -1, r) for n, r in enumerate([POSITIVE, NEGATIVE, NEUTRAL, IMPRESSION])]
    assert activity(columns(rows)) == {(20_000, 1): 1}
    assert len(staying(rows, {20_000: 1}, drop=True)[0]) == len(rows)


def test_which_responses_stay_hangs_on_the_user():
    rows = [(user, -1, 20_000 * DAY + n, n, -1, POSITIVE) for user in (0, 1) for n in range(50)]
    kept, _ = staying(rows, {20_000: 25})
    one, other = ({row[3] for row in kept if row[0] == user} for user in (0, 1))
    assert len(one) == len(other) == 25 and one != other


def test_which_of_two_responses_at_one_time_stays_does_not_hang_on_the_order_of_the_log():
    """Two events of one song in the same second, told apart by their ids in the log."""
    one, other = ((0, -1, 20_000 * DAY, 3, trigger, POSITIVE) for trigger in (-1, 2))
    assert staying([one, other], {20_000: 1}) == staying([other, one], {20_000: 1})


def test_no_events_have_no_limit():
    assert activity(columns([])) == {} == day_limits({}, 99)
    assert staying([], {}) == ([], {})
