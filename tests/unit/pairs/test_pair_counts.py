"""Baskets, pairs and sketches against slow references of a few lines."""

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.pairs.baskets import Events, basket_numbers, form_baskets
from htcl.pairs.counting import (
    SKETCH_SIZE,
    WEIGHT_ONE,
    copreference_pairs,
    estimate_users,
    item_counts,
    triggered_pairs,
)

MINUTE, DAY = 60_000_000, 86_400_000_000
GAP = 30

# Times lie around two midnights, in steps of 10 minutes, so that gaps of exactly 30 minutes occur.
EVENT = st.tuples(
    st.integers(0, 3),
    st.sampled_from([-1, -1, 0, 5]),
    st.integers(-12, 160).map(lambda tenth: 20_000 * DAY + tenth * 10 * MINUTE),
    st.integers(0, 6),
    st.integers(-1, 6),
)
EVENTS = st.lists(EVENT, max_size=40)


def columns(rows):
    table = np.array(rows, dtype=np.int64).reshape(-1, 5)
    return Events(*(table[:, column].copy() for column in range(5)))


def naive_basket_keys(rows):
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


def naive_baskets(rows, cap):
    """Basket -> its first `cap` songs heard."""
    first = defaultdict(dict)
    for key, (_, _, ts, track, _) in zip(naive_basket_keys(rows), rows, strict=True):
        first[key][track] = min(ts, first[key].get(track, ts))
    return {
        key: sorted(heard, key=lambda track, heard=heard: (heard[track], track))[:cap] for key, heard in first.items()
    }


def baskets_of(rows, cap=100):
    events = columns(rows)
    numbers = basket_numbers(events, GAP)
    return events, numbers, form_baskets(events, numbers, cap)


def as_dict(counts):
    """(day, anchor, positive) -> (baskets, weight, users)."""
    return {
        (int(counts.day[i]), int(counts.anchor[i]), int(counts.positive[i])): (
            int(counts.n_baskets[i]),
            int(counts.weight[i]),
            tuple(counts.users[counts.offsets[i] : counts.offsets[i + 1]].tolist()),
        )
        for i in range(len(counts.day))
    }


def summed(found):
    """Reference counts out of (day, anchor, positive, weight, user) of every basket."""
    totals = defaultdict(lambda: [0, 0, set()])
    for *key, weight, user in found:
        total = totals[tuple(key)]
        total[0] += 1
        total[1] += weight
        total[2].add(user)
    return {key: (n, weight, tuple(sorted(users))) for key, (n, weight, users) in totals.items()}


@settings(deadline=None)
@given(EVENTS)
def test_basket_numbers_part_events_as_the_reference_does(rows):
    numbers = basket_numbers(columns(rows), GAP).tolist()
    keys = naive_basket_keys(rows)
    assert len(set(zip(numbers, keys, strict=True))) == len(set(keys)) == len(set(numbers))
    assert set(numbers) == set(range(len(set(numbers))))


@settings(deadline=None)
@given(EVENTS, st.integers(2, 5))
def test_baskets_hold_the_first_songs_heard(rows, cap):
    _, _, baskets = baskets_of(rows, cap)
    found = Counter(
        (int(baskets.user[i]), int(baskets.day[i]), *baskets.track[baskets.basket == i].tolist())
        for i in range(len(baskets.size))
    )
    expected = Counter((user, day, *sorted(songs)) for (user, _, _, day), songs in naive_baskets(rows, cap).items())
    assert found == expected
    assert baskets.size.tolist() == np.bincount(baskets.basket, minlength=len(baskets.size)).tolist()


@settings(deadline=None)
@given(EVENTS, st.integers(2, 5))
def test_copreference_pairs_equal_the_reference(rows, cap):
    expected = summed(
        (day, *pair, round(WEIGHT_ONE / (len(songs) - 1)), user)
        for (user, _, _, day), songs in naive_baskets(rows, cap).items()
        for pair in combinations(sorted(songs), 2)
    )
    assert as_dict(copreference_pairs(baskets_of(rows, cap)[2])) == expected


@settings(deadline=None)
@given(EVENTS)
def test_triggered_pairs_count_once_a_basket(rows):
    hits = {
        (key, trigger, track)
        for key, (*_, track, trigger) in zip(naive_basket_keys(rows), rows, strict=True)
        if trigger >= 0 and trigger != track
    }
    expected = summed((key[3], trigger, track, WEIGHT_ONE, key[0]) for key, trigger, track in hits)
    events, numbers, _ = baskets_of(rows)
    assert as_dict(triggered_pairs(events, numbers)) == expected


@settings(deadline=None)
@given(EVENTS, st.integers(2, 5))
def test_item_counts_equal_the_reference(rows, cap):
    expected = defaultdict(lambda: [0, 0])
    for (_, _, _, day), songs in naive_baskets(rows, cap).items():
        for track in songs:
            expected[day, track][0] += 1
            expected[day, track][1] += round(WEIGHT_ONE / len(songs))
    found = zip(*(column.tolist() for column in item_counts(baskets_of(rows, cap)[2])), strict=True)
    assert {(day, track): [n, weight] for day, track, n, weight in found} == expected


@settings(deadline=None)
@given(EVENTS)
def test_counting_day_by_day_equals_counting_all_days(rows):
    whole, daily = {}, {}
    for part, counted in [(rows, whole)] + [
        ([row for row in rows if row[2] // DAY == day], daily) for day in {row[2] // DAY for row in rows}
    ]:
        events, numbers, baskets = baskets_of(part, cap=3)
        counted.update(as_dict(copreference_pairs(baskets)))
        counted.update({("triggered", *k): v for k, v in as_dict(triggered_pairs(events, numbers)).items()})
        counted.update({row[:2]: row[2:] for row in zip(*item_counts(baskets), strict=True)})
    assert daily == whole


@settings(deadline=None)
@given(EVENTS, st.randoms(use_true_random=False))
def test_order_of_the_log_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    first, second = (baskets_of(part, cap=3) for part in (rows, shuffled))
    assert as_dict(copreference_pairs(first[2])) == as_dict(copreference_pairs(second[2]))
    assert as_dict(triggered_pairs(*first[:2])) == as_dict(triggered_pairs(*second[:2]))


def test_no_events_give_no_counts():
    events, numbers, baskets = baskets_of([])
    for counts in (copreference_pairs(baskets), triggered_pairs(events, numbers)):
        assert len(counts.day) == 0 and counts.offsets.tolist() == [0]
    assert all(len(column) == 0 for column in item_counts(baskets))


def sketch(users):
    """The sketch of one pair that each user has in a basket of two songs, some twice."""
    rows = [(user, session, 0, track, -1) for user in users for session in (0, 1) for track in (0, 1)]
    counts = copreference_pairs(baskets_of(rows)[2])
    return counts.users.tolist()


def merged(sketches):
    """The merge that the jobs write in SQL."""
    return sorted(set().union(*sketches))[:SKETCH_SIZE]


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 200), st.integers(1, 5))
def test_sketches_merge_in_any_order(random, n, parts):
    users = [random.getrandbits(63) for _ in range(n)]
    groups = [random.sample(users, random.randint(0, n)) for _ in range(parts)]
    covered = sorted(set().union(*groups))
    sketches = [sketch(group) for group in groups]
    running = []
    for part in random.sample(sketches, parts):
        running = merged([running, part])
    assert running == merged(sketches) == covered[:SKETCH_SIZE] == sketch(covered)


@pytest.mark.parametrize("n", [1, 2, SKETCH_SIZE - 1])
def test_users_are_exact_below_the_size_of_a_sketch(n):
    users = np.random.default_rng(n).integers(0, 2**63, n)
    found = sketch(users.tolist())
    assert estimate_users(len(found), found[-1]) == n


@pytest.mark.parametrize("n", [100, 1_000, 20_000])
def test_estimate_of_many_users_is_unbiased_and_within_three_deviations(n):
    rng = np.random.default_rng(n)
    estimates = []
    for _ in range(60):
        least = np.partition(rng.integers(0, 2**63, n), SKETCH_SIZE - 1)[SKETCH_SIZE - 1]
        estimates.append(estimate_users(SKETCH_SIZE, int(least)) / n)
    deviation = 1 / np.sqrt(SKETCH_SIZE - 2)
    assert abs(estimates[0] - 1) < 3 * deviation
    assert abs(np.mean(estimates) - 1) < 3 * deviation / np.sqrt(60)
