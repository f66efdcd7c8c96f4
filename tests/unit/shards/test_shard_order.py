import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcl.shards.order import epoch_order

BLOCKS = st.lists(st.integers(0, 8), max_size=60).map(lambda blocks: np.array(blocks, np.int64))


@given(BLOCKS, st.integers(1, 12), st.integers(0, 3), st.integers(0, 3))
def test_every_sample_comes_once_an_epoch(blocks, window, seed, epoch):
    order = epoch_order(blocks, window, seed, epoch)
    assert sorted(order.tolist()) == list(range(len(blocks)))
    np.testing.assert_array_equal(order, epoch_order(blocks, window, seed, epoch))


@given(BLOCKS, st.integers(1, 12), st.integers(0, 3))
def test_a_window_is_read_before_the_next_begins(blocks, window, seed):
    order = epoch_order(blocks, window, seed, epoch=0)
    places = {block: np.flatnonzero(blocks[order] == block) for block in set(blocks.tolist())}
    # Blocks whose samples lie between each other's are shuffled together.
    together, end = [], -1
    for first, last in sorted((int(place[0]), int(place[-1])) for place in places.values()):
        together = [*together, first] if first < end else [first]
        end = max(end, last)
        assert len(together) <= window


@pytest.mark.parametrize("window", [1, 3, 100])
def test_epochs_and_seeds_differ(window):
    blocks = np.repeat(np.arange(10), 10)
    orders = [epoch_order(blocks, window, *key).tolist() for key in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_blocks_are_permuted_too():
    firsts = {int(epoch_order(np.repeat(np.arange(5), 4), 1, 0, epoch)[0]) // 4 for epoch in range(40)}
    assert firsts == set(range(5))


def test_a_window_of_all_blocks_is_the_full_shuffle():
    blocks = np.repeat(np.arange(4), 25)
    starts = np.array([blocks[epoch_order(blocks, 4, 0, epoch)[:25]] for epoch in range(40)])
    shares = np.bincount(starts.ravel(), minlength=4) / starts.size
    np.testing.assert_allclose(shares, 0.25, atol=0.06)
