"""Pairs over days against a slow reference: the latest songs of the days before, once a day."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.pairs.baskets import NEUTRAL, POSITIVE, form_baskets
from htcl.pairs.counting import COPREFERENCE, WEIGHT_ONE, take
from htcl.pairs.lookback import lookback_pairs
from tests.unit.pairs.reference import DAY, EVENT, MINUTE, as_dict, baskets_of, lookback, many

FIRST = 20_000
EVENTS = many(
    st.tuples(EVENT, st.integers(0, 6)).map(lambda of: (*of[0][:2], of[0][2] % DAY + (FIRST + of[1]) * DAY, *of[0][3:]))
)
WINDOW = st.integers(1, 8)
moderate = settings(max_examples=30)


def counted(rows, days, cap=100, symmetric=True):
    *_, baskets = baskets_of(rows)
    return lookback_pairs(baskets, days, cap, symmetric)


@moderate
@given(EVENTS, WINDOW, st.integers(2, 5), st.booleans())
def test_pairs_over_days_equal_the_reference(rows, days, cap, symmetric):
    assert as_dict(counted(rows, days, cap, symmetric)) == lookback(rows, days, cap, symmetric)


@moderate
@given(EVENTS, WINDOW, st.booleans())
def test_a_day_hangs_on_itself_and_the_days_before_alone(rows, days, symmetric):
    whole = as_dict(counted(rows, days, 3, symmetric))
    daily = {}
    for day in {row[2] // DAY for row in rows}:
        near = counted([row for row in rows if day - days <= row[2] // DAY <= day], days, 3, symmetric)
        daily.update(as_dict(take(near, np.flatnonzero(near.day == day))))
    assert daily == whole


def like(day, track, user=1, response=POSITIVE, minute=0):
    return (user, 7, (FIRST + day) * DAY + minute * MINUTE, track, -1, response)


def pairs(rows, days, **how):
    """(day since the first, anchor, positive) -> weight in shares of one."""
    found = as_dict(counted(rows, days, **how))
    assert {source for _, source, _, _ in found} <= {COPREFERENCE}
    return {(day - FIRST, a, b): weight / WEIGHT_ONE for (day, _, a, b), (_, weight, *_) in found.items()}


@pytest.mark.parametrize(("days", "found"), [(1, {}), (2, {(2, 0, 1): 1.0}), (3, {(2, 0, 1): 1.0})])
def test_it_looks_back_that_many_days(days, found):
    assert pairs([like(0, 1), like(2, 0)], days) == found


def test_of_a_long_history_the_latest_songs_are_kept_and_share_one():
    rows = [like(0, 1), like(1, 2), like(2, 3), like(3, 0)]
    assert pairs(rows, 7, cap=2) == {(3, 0, 2): 0.5, (3, 0, 3): 0.5, (2, 2, 3): 0.5, (2, 1, 3): 0.5, (1, 1, 2): 1.0}


def test_of_a_long_day_the_first_songs_are_paired():
    assert pairs([like(0, 9), *(like(1, track) for track in range(5))], 1, cap=2) == {(1, 0, 9): 1.0, (1, 1, 9): 1.0}


def test_two_days_of_very_many_songs_are_not_multiplied():
    many_songs = 3_000
    rows = [like(day, track) for day in (0, 1) for track in range(many_songs * day, many_songs * (day + 1))]
    events, numbers, pleased, _ = baskets_of(rows)
    baskets = form_baskets(events.take(pleased), numbers[pleased], many_songs)
    assert len(lookback_pairs(baskets, 1, 10).day) == 100


def test_a_song_heard_again_is_as_late_as_its_last_time():
    rows = [like(0, 1), like(1, 2), like(2, 1), like(3, 0)]
    assert {key: w for key, w in pairs(rows, 7, cap=1).items() if key[0] == 3} == {(3, 0, 1): 1.0}


def test_a_song_is_no_pair_with_itself_but_takes_its_share_of_the_history():
    assert pairs([like(0, 0), like(0, 1), like(1, 0)], 1) == {(1, 0, 1): 0.5}


def test_a_directed_pair_leads_from_the_earlier_day():
    assert pairs([like(0, 1), like(1, 0)], 1, symmetric=False) == {(1, 1, 0): 1.0}


def test_a_song_in_two_baskets_of_a_day_counts_once():
    evening = (1, 8, (FIRST + 1) * DAY + 900 * MINUTE, 0, -1, POSITIVE)
    counts = counted([like(0, 1), like(1, 0), evening], 1)
    assert counts.figures[0].tolist() == [1]


@pytest.mark.parametrize(
    "rows", [[], [like(0, 1)], [like(0, 1, user=1), like(1, 0, user=2)], [like(0, 1), like(1, 0, response=NEUTRAL)]]
)
def test_without_a_history_there_are_no_pairs(rows):
    assert pairs(rows, 7) == {}
