"""Log-mel features and their normalisation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.audio.features import log_mel, normalize, normalize_reference, num_frames, pad_batch

from .conftest import chirp


def hz_to_mel(hz: float) -> float:
    return 2595.0 * np.log10(1.0 + hz / 700.0)


def log_mel_by_hand(samples: np.ndarray) -> np.ndarray:
    """The same features from numpy's FFT and triangles written out."""
    padded = np.pad(samples.astype(np.float64), 1024, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    starts = range(0, len(padded) - 2048 + 1, 1536)
    power = np.stack([np.abs(np.fft.rfft(window * padded[start : start + 2048])) ** 2 for start in starts])
    corners = 700.0 * (10 ** (np.linspace(0, hz_to_mel(8000), 130) / 2595.0) - 1.0)
    hz = np.linspace(0, 8000, 1025)[:, None]
    rising = (hz - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - hz) / np.diff(corners)[1:]
    decibel = 10 * np.log10(np.maximum(power @ np.maximum(0, np.minimum(rising, falling)), 1e-10))
    return np.maximum(decibel, decibel.max() - 80)


def test_log_mel_equals_the_definition() -> None:
    samples = chirp(5.0, 16_000) + np.random.default_rng(0).normal(0, 0.01, 80_000).astype(np.float32)
    mel = log_mel(samples)
    assert mel.dtype == np.float16
    assert mel.flags.c_contiguous
    np.testing.assert_allclose(mel.astype(np.float64), log_mel_by_hand(samples), atol=0.04)
    np.testing.assert_array_equal(mel, log_mel(samples))


@pytest.mark.parametrize("num_samples", [1025, 1536, 32_000, 32_255, 32_256, 120 * 16_000])
def test_number_of_frames(num_samples: int) -> None:
    assert log_mel(np.ones(num_samples, np.float32)).shape == (num_frames(num_samples), 128)


def test_two_minutes_are_1251_frames() -> None:
    assert num_frames(120 * 16_000) == 1251


def test_top_db_bounds_the_range() -> None:
    samples = np.concatenate([chirp(3.0, 16_000), np.zeros(48_000, np.float32)])
    mel = log_mel(samples, top_db=60.0)
    assert mel.max() - mel.min() == pytest.approx(60.0, abs=0.1)


@pytest.mark.parametrize("shape", [(1024,), (2, 16_000)])
def test_log_mel_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="mono samples"):
        log_mel(np.ones(shape, np.float32))


def test_pad_batch() -> None:
    mels = [np.full((frames, 4), frames, np.float16) for frames in (2, 5, 3)]
    batch, lengths = pad_batch(mels)
    assert (batch.dtype, batch.shape) == (torch.float32, (3, 5, 4))
    assert (lengths.dtype, lengths.tolist()) == (torch.int64, [2, 5, 3])
    assert batch.sum(dim=(1, 2)).tolist() == [16.0, 100.0, 36.0]


@settings(max_examples=50)
@given(
    frames=st.integers(1, 40),
    padding=st.integers(0, 40),
    junk=st.floats(-1e3, 1e3),
    level=st.floats(-80, 40),
    seed=st.integers(0, 2**16),
)
def test_normalisation_does_not_depend_on_padding(
    frames: int, padding: int, junk: float, level: float, seed: int
) -> None:
    song = level + 20 * torch.randn(1, frames, 8, generator=torch.Generator().manual_seed(seed))
    padded = torch.cat([song, torch.full((1, padding, 8), junk)], dim=1)
    alone = normalize(song, torch.tensor([frames]))
    beside = normalize(padded, torch.tensor([frames]))
    torch.testing.assert_close(beside[:, :frames], alone, atol=1e-4, rtol=1e-4)
    assert not beside[:, frames:].any()
    assert abs(alone.mean().item()) < 1e-3
    assert alone.std(correction=0).item() == pytest.approx(1.0, abs=1e-3)


def test_a_constant_song_becomes_zeros() -> None:
    assert not normalize(torch.full((1, 5, 4), -31.0), torch.tensor([5])).any()


def test_reference_normalisation_counts_the_padding() -> None:
    batch, lengths = pad_batch([np.full((2, 4), 7.0, np.float16), np.random.default_rng(0).normal(size=(6, 4))])
    result = normalize_reference(batch)
    numbers = batch.numpy()
    expected = (numbers - numbers.mean((1, 2), keepdims=True)) / numbers.std((1, 2), keepdims=True)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    torch.testing.assert_close(result[1], normalize(batch, lengths)[1])
