"""Which samples a step reads, a function of the step alone, and which of their songs a rank encodes."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from htcl.shards.order import epoch_order
from htcl.training.samples import Samples
from htcl.training.schedule import SHUFFLE_WINDOW, Schedule, assign_occurrences, assign_songs

BATCHES = arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 2)), elements=st.integers(0, 9))
FRAMES = arrays(np.int32, 10, elements=st.integers(17, 30))


def schedule(n=23, width=1, batch_size=6, epochs=3, seed=5, hard_negative_share=0.0):
    songs = np.arange(n * width).reshape(n, width)
    samples = Samples(songs, np.arange(n) // 5, np.full(songs.size, 20, np.int32), np.arange(songs.size))
    return Schedule(samples, batch_size, epochs, seed, hard_negative_share)


def steps(plan, first=0):
    return [(step, rows.tolist()) for step, rows in plan.steps(first)]


def test_an_epoch_has_whole_batches_without_repeats():
    plan = schedule()
    assert (plan.steps_an_epoch, plan.total_steps) == (3, 9)
    found = steps(plan)
    assert [step for step, _ in found] == list(range(9))
    assert all(len(rows) == 6 for _, rows in found)
    epochs = [[row for _, rows in found[e * 3 : e * 3 + 3] for (row,) in rows] for e in range(3)]
    assert all(len(set(epoch)) == 18 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_pairs_are_read_as_they_are_once_an_epoch(share):
    found = steps(schedule(n=24, width=2, hard_negative_share=share))
    for epoch in range(3):
        pairs = [pair for _, rows in found[epoch * 4 : epoch * 4 + 4] for pair in rows]
        assert sorted(pairs) == [[2 * n, 2 * n + 1] for n in range(24)]


@pytest.mark.parametrize("share", [0, 0.5])
def test_samples_left_over_differ_by_epoch(share):
    seen = {tuple(row) for _, rows in steps(schedule(width=2, epochs=12, hard_negative_share=share)) for row in rows}
    assert len(seen) == 23


@pytest.mark.parametrize("first", range(1, 10))
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_resumed_run_reads_what_the_first_would_have(first, share):
    plan = schedule(width=2, hard_negative_share=share)
    assert steps(plan, first) == steps(plan)[first:]


def test_another_seed_reads_in_another_order():
    assert steps(schedule(seed=5)) == steps(schedule(seed=5)) != steps(schedule(seed=6))


def test_fewer_samples_than_a_batch_make_no_step():
    plan = schedule(n=5)
    assert plan.total_steps == 0 and steps(plan) == []


def test_shards_are_read_in_the_order_of_the_epoch():
    plan = schedule(n=24, epochs=2)
    for epoch in (0, 1):
        rows = [row for _, rows in steps(plan)[epoch * 4 : epoch * 4 + 4] for (row,) in rows]
        assert rows == epoch_order(plan.samples.blocks, SHUFFLE_WINDOW, 5, epoch).tolist()


def rings(share, seed=0):
    """For each step, the ring that each pair of the batch belongs to: ten rings of twelve songs, for ten epochs."""
    songs = np.arange(120)
    pairs = np.stack([songs, songs // 12 * 12 + (songs + 1) % 12], axis=1)
    samples = Samples(pairs, np.zeros(120, np.int64), np.full(120, 20, np.int32), np.arange(120))
    return np.stack([rows[:, 0] // 12 for _, rows in Schedule(samples, 12, 10, seed, share).steps()])


def test_the_share_of_a_batch_comes_from_one_neighbourhood():
    together = [np.mean([np.bincount(batch).max() for batch in rings(share)]) for share in (0, 0.25, 0.5, 1)]
    assert together == sorted(set(together))
    assert together[0] < 4 and together[2] > 5 and together[3] == 12


def test_neighbourhoods_come_in_another_order_in_each_epoch_and_run():
    walks = [tuple(epoch) for seed in (0, 1) for epoch in rings(1, seed)[:, 0].reshape(10, 10).tolist()]
    assert all(sorted(walk) == list(range(10)) for walk in walks)
    assert len(set(walks)) == 20


@settings(max_examples=50)
@given(BATCHES, FRAMES, st.integers(1, 5))
def test_each_sample_finds_its_songs_among_those_of_all_ranks(batch, frames, world_size):
    ranks = [assign_songs(batch, frames, rank, world_size) for rank in range(world_size)]
    table = np.concatenate([rank.songs for rank in ranks])
    assert len({len(rank.songs) for rank in ranks}) == 1
    for rank in ranks:
        np.testing.assert_array_equal(table[rank.places], batch)


@settings(max_examples=50)
@given(BATCHES, FRAMES, st.integers(1, 5))
def test_each_song_is_encoded_once_and_the_shortest_again_where_they_do_not_divide(batch, frames, world_size):
    table = [
        song for rank in range(world_size) for song in assign_songs(batch, frames, rank, world_size).songs.tolist()
    ]
    distinct = set(batch.ravel().tolist())
    again = Counter(table) - Counter(distinct)
    assert set(table) == distinct
    assert again.total() == -len(distinct) % world_size
    assert all(frames[song] == frames[list(distinct)].min() for song in again) and len(again) <= 1


@settings(max_examples=50)
@given(BATCHES, FRAMES, st.integers(1, 5))
def test_songs_are_dealt_longest_first(batch, frames, world_size):
    songs = [assign_songs(batch, frames, rank, world_size).songs for rank in range(world_size)]
    dealt = frames[np.stack(songs, axis=1).ravel()]
    assert (np.diff(dealt) <= 0).all()
    assert all((np.diff(frames[rank]) <= 0).all() for rank in songs)


@settings(max_examples=50)
@given(BATCHES, FRAMES, st.integers(1, 5), st.randoms(use_true_random=False))
def test_who_encodes_a_song_does_not_depend_on_the_order_of_the_samples(batch, frames, world_size, random):
    order = random.sample(range(len(batch)), len(batch))
    for rank in range(world_size):
        one, other = (assign_songs(rows, frames, rank, world_size) for rows in (batch, batch[order]))
        np.testing.assert_array_equal(one.songs, other.songs)
        np.testing.assert_array_equal(one.places[order], other.places)


@settings(max_examples=50)
@given(BATCHES, st.integers(1, 4))
def test_reference_parity_encodes_the_own_anchors_then_their_positives(part, world_size):
    batch = np.concatenate([(part + rank) % 10 for rank in range(world_size)])
    ranks = [assign_occurrences(batch, rank, world_size) for rank in range(world_size)]
    table = np.concatenate([rank.songs for rank in ranks])
    for number, rank in enumerate(ranks):
        own = batch[number * len(part) : (number + 1) * len(part)]
        assert rank.songs.tolist() == [song for side in own.T.tolist() for song in side]
        np.testing.assert_array_equal(table[rank.places], batch)
    assert sorted(ranks[0].places.ravel().tolist()) == list(range(batch.size))
