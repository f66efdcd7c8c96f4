"""Bottom-k sketches: exact below k, the same in any order of merging, unbiased above."""

from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.pairs.sketches import SKETCH_SIZE, bottom_k, count_users, merge_sketches, offsets_of


def joined(lists):
    return list(chain.from_iterable(lists))


def sketches_of(groups):
    """The sketches of groups of users, end to end: (users, offsets)."""
    filled = [sorted(group) for group in groups if group]
    starts = np.array([0, *np.cumsum([len(group) for group in filled])][: len(filled)], dtype=np.intp)
    users, _ = bottom_k(np.array(joined(filled), dtype=np.int64), starts)
    return users, offsets_of(np.array([min(len(set(group)), SKETCH_SIZE) for group in groups], dtype=np.int64))


def as_lists(users, offsets):
    return [users[a:b].tolist() for a, b in pairwise(offsets)]


def least(users):
    """What a sketch is."""
    return sorted(set(users))[:SKETCH_SIZE]


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 150), min_size=1, max_size=100), max_size=4))
def test_a_sketch_is_the_least_distinct_users_of_its_run(groups):
    groups = [sorted(group) for group in groups]
    ends = np.cumsum([len(group) for group in groups], dtype=np.intp)
    starts = ends - np.array([len(group) for group in groups], dtype=np.intp)
    users, offsets = bottom_k(np.array(joined(groups), dtype=np.int64), starts)
    assert as_lists(users, offsets) == [least(group) for group in groups]


@settings(max_examples=30)
@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 4), max_size=5))
def test_sketches_merge_to_the_sketch_of_the_union(random, runs):
    """Among them empty ones, and such as stand alone."""
    known = [random.getrandbits(63) for _ in range(200)]
    groups = [random.sample(known, random.choice([0, 0, 1, 5, 63, 64, 65, 150])) for _ in range(sum(runs))]
    starts = np.array([0, *np.cumsum(runs)][: len(runs)], dtype=np.intp)
    users, offsets = sketches_of(groups)
    before = users.copy()
    merged = as_lists(*merge_sketches(users, offsets, starts))
    members = np.split(np.arange(len(groups)), starts[1:]) if runs else []
    assert merged == [least(joined(groups[n] for n in run)) for run in members]
    assert users.tolist() == before.tolist()


@settings(max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(1, 200), st.integers(1, 5))
def test_sketches_merge_in_any_order_and_in_any_steps(random, n, parts):
    known = [random.getrandbits(63) for _ in range(n)]
    groups = [random.sample(known, random.randint(0, n)) for _ in range(parts)]
    running: list[int] = []
    for group in random.sample(groups, parts):
        users, offsets = sketches_of([running, group])
        running = merge_sketches(users, offsets, np.array([0]))[0].tolist()
    assert running == least(joined(groups))


def test_only_empty_sketches_merge_to_empty_ones():
    users, offsets = merge_sketches(np.zeros(0, np.int64), np.zeros(4, np.int64), np.array([0, 1]))
    assert as_lists(users, offsets) == [[], []]


@pytest.mark.parametrize("n", [0, 1, 2, SKETCH_SIZE - 1])
def test_users_are_exact_below_the_size_of_a_sketch(n):
    users = np.random.default_rng(n).integers(0, 2**63, n)
    assert count_users(*sketches_of([users.tolist(), [7]])).tolist() == [n, 1]


@pytest.mark.parametrize("n", [100, 1_000, 20_000])
def test_estimate_of_many_users_is_unbiased_and_within_three_deviations(n):
    rng = np.random.default_rng(n)
    least_users = [np.sort(np.partition(rng.integers(0, 2**63, n), SKETCH_SIZE)[:SKETCH_SIZE]) for _ in range(60)]
    offsets = np.arange(61) * SKETCH_SIZE
    estimates = count_users(np.concatenate(least_users), offsets) / n
    deviation = 1 / np.sqrt(SKETCH_SIZE - 2)
    assert abs(estimates[0] - 1) < 3 * deviation
    assert abs(np.mean(estimates) - 1) < 3 * deviation / np.sqrt(60)
