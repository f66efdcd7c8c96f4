"""Augmentation takes away what it says, no more, and the same from a song wherever it is encoded."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.training.augment import crop_frames, drop_parts, mask_bands, song_generator

FIELDS = ["title", "artist", "album", "genre", "language", "tags"]
RATIO = st.floats(0, 0.98)


@settings(max_examples=50)
@given(st.integers(1, 6), RATIO, st.integers(0, 1000))
def test_the_parts_that_stay_keep_their_order_and_one_always_does(count, rate, row):
    fields = FIELDS[:count]
    kept = drop_parts(fields, rate, song_generator(0, 0, row))
    assert kept and kept == [field for field in fields if field in kept]


def test_no_rate_drops_no_part():
    assert all(drop_parts(FIELDS, 0, song_generator(0, 0, row)) == FIELDS for row in range(200))


def test_of_a_text_without_parts_nothing_is_left():
    assert drop_parts([], 0.5, song_generator(0, 0, 0)) == []


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_each_part_is_dropped_at_the_rate(rate):
    kept = [drop_parts(FIELDS, rate, song_generator(0, 0, row)) for row in range(4000)]
    shares = [np.mean([field in fields for fields in kept]) for field in FIELDS]
    np.testing.assert_allclose(shares, 1 - rate, atol=0.03)


def test_the_part_that_stays_alone_is_any():
    kept = [drop_parts(FIELDS, 0.999, song_generator(0, 0, row))[0] for row in range(600)]
    assert min(kept.count(field) for field in FIELDS) > 50


@settings(max_examples=50)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 1000))
def test_a_crop_is_a_stretch_of_the_song_of_at_most_its_length(length, frames, row):
    song = np.arange(length, dtype=np.float16)[:, None] * np.ones(3, np.float16)
    cropped = crop_frames(song, frames, song_generator(0, 0, row))
    assert len(cropped) == min(length, frames)
    assert (np.diff(cropped[:, 0]) == 1).all()


def test_a_crop_begins_anywhere():
    song = np.arange(12, dtype=np.float16)[:, None]
    assert {int(crop_frames(song, 5, song_generator(0, 0, row))[0, 0]) for row in range(200)} == set(range(8))


def masked(shape, time_ratio, frequency_ratio, row):
    """Which frames and which mels were set to 0."""
    features = torch.ones(shape)
    mask_bands(features, time_ratio, frequency_ratio, song_generator(0, 0, row))
    assert set(features.unique().tolist()) <= {0.0, 1.0}
    # What remains is a grid of whole frames and whole mels.
    frames, mels = features.any(dim=1), features.any(dim=0)
    assert torch.equal(features.bool(), frames[:, None] & mels)
    return np.flatnonzero(~frames.numpy()), np.flatnonzero(~mels.numpy())


@settings(max_examples=50)
@given(st.tuples(st.integers(1, 60), st.integers(1, 20)), RATIO, RATIO, st.integers(0, 1000))
def test_one_band_of_frames_and_one_of_mels_is_masked_at_most_at_the_ratio(shape, time_ratio, frequency_ratio, row):
    bands = masked(shape, time_ratio, frequency_ratio, row)
    for band, size, ratio in zip(bands, shape, (time_ratio, frequency_ratio), strict=True):
        assert len(band) <= ratio * size
        assert len(band) == 0 or np.ptp(band) == len(band) - 1


def test_bands_have_every_width_and_lie_anywhere():
    frames, mels = zip(*[masked((20, 8), 0.25, 0.5, row) for row in range(600)], strict=True)
    assert {len(band) for band in frames} == set(range(6)) and {len(band) for band in mels} == set(range(5))
    assert {int(place) for band in frames for place in band} == set(range(20))
    assert {int(place) for band in mels for place in band} == set(range(8))


def test_only_the_axis_with_a_ratio_is_masked():
    found = [(masked((20, 8), 0.5, 0, row), masked((20, 8), 0, 0.5, row)) for row in range(50)]
    assert not any(len(time[1]) or len(frequency[0]) for time, frequency in found)
    assert any(len(time[0]) for time, _ in found) and any(len(frequency[1]) for _, frequency in found)
    assert all(len(band) == 0 for row in range(50) for band in masked((20, 8), 0, 0, row))


def test_masking_a_part_of_a_batch_leaves_the_rest():
    batch = torch.ones(2, 30, 8)
    for row in range(50):
        mask_bands(batch[0][:20], 0.9, 0.9, song_generator(0, 0, row))
    assert not batch[0][:20].all()
    assert batch[0][20:].all() and batch[1].all()


def test_random_numbers_depend_on_seed_step_and_song():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)]
    numbers = [song_generator(*key).random() for key in keys]
    assert len(set(numbers)) == len(keys)
    assert numbers == [song_generator(*key).random() for key in keys]
