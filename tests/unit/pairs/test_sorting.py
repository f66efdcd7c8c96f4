"""Sorting packed numbers equals sorting columns, whatever their ranges; hashes are the same for ever."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.pairs.sorting import (
    mixed,
    ranks,
    run_lengths,
    run_numbers,
    run_starts,
    run_sums,
    sort_order,
    sorted_columns,
)

INT64 = np.iinfo(np.int64)
RANGES = st.sampled_from(
    [(0, 0), (-1, 1), (0, 1000), (-(2**31), 2**31), (0, 2**62), (INT64.min, INT64.max), (INT64.max - 3, INT64.max)]
)


@st.composite
def tables(draw):
    """1 to 4 columns of equal length, each from a range of its own."""
    n = draw(st.integers(0, 30))
    found = [draw(RANGES) for _ in range(draw(st.integers(1, 4)))]
    columns = [draw(st.lists(st.integers(*bounds), min_size=n, max_size=n)) for bounds in found]
    return [np.array(column, dtype=np.int64) for column in columns]


@settings(max_examples=100)
@given(tables())
def test_order_is_that_of_lexsort(columns):
    expected = np.lexsort(columns[::-1])
    order = sort_order(*columns)
    assert sorted(order.tolist()) == list(range(len(columns[0])))
    for column, found in zip(columns, sorted_columns(*columns), strict=True):
        assert column[order].tolist() == found.tolist() == column[expected].tolist()
        assert found.dtype == np.int64


def test_columns_of_small_types_are_not_cut_when_they_are_packed():
    small, wide = np.array([3, -3, 3], dtype=np.int8), np.array([1 << 40, 5, -(1 << 40)])
    assert sort_order(small, wide).tolist() == [1, 2, 0]


@settings(max_examples=60)
@given(st.lists(st.one_of(st.integers(-3, 3), st.integers(INT64.min, INT64.max)), max_size=20))
def test_ranks_keep_order_and_equality(values):
    column = np.array(values, dtype=np.int64)
    found = ranks(column)
    assert (
        np.sign(np.subtract.outer(found, found)) == np.greater.outer(column, column) * 1 - np.less.outer(column, column)
    ).all()
    assert found.min(initial=0) >= 0 and found.max(initial=0) < 1 << 24


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=20).map(sorted))
def test_runs_are_those_of_equal_rows(rows):
    table = np.array(rows, dtype=np.int64).reshape(-1, 2)
    distinct = sorted(set(rows))
    starts = run_starts(table[:, 0], table[:, 1])
    assert starts.tolist() == [rows.index(row) for row in distinct]
    assert run_lengths(starts, len(rows)).tolist() == [rows.count(row) for row in distinct]
    assert run_numbers(starts, len(rows)).tolist() == [distinct.index(row) for row in rows]
    values = np.arange(len(rows))
    assert run_sums(values, starts).tolist() == [sum(i for i, r in enumerate(rows) if r == row) for row in distinct]


@pytest.mark.parametrize(
    ("a", "b", "hashed"),
    [(0, 0, 0), (1, 0, 12994781566227106604), (0, 1, 11286133854226296554), (2**62, -1, 6475287615803990653)],
)
def test_hashes_are_pinned(a, b, hashed):
    """Buckets of stored counts hang on them."""
    found = mixed(np.array([a]), np.array([b]))
    assert found.dtype == np.uint64 and found.tolist() == [hashed]


def test_hashes_spread_neighbours_over_all_parts():
    n = 1 << 14
    for a, b in ((np.arange(n), np.zeros(n, np.int64)), (np.full(n, 5), np.arange(n)), (np.arange(n), np.arange(n))):
        sizes = np.bincount((mixed(a, b) % np.uint64(16)).astype(np.int64), minlength=16)
        assert abs(sizes - n / 16).max() < 6 * np.sqrt(n / 16)
