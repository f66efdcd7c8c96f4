"""Log-mel features: the numbers that the audio encoder reads.

The defaults are the paper's: 16 kHz, 128 mels, 2048-sample Hann window, hop of 1536 samples (128 ms window,
96 ms hop), so that 120 s are 1251 frames.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from htcl.audio.torchaudio_cpu import torchaudio

SAMPLE_RATE = 16_000
N_MELS = 128
N_FFT = 2048
HOP_LENGTH = 1536
TOP_DB = 80.0

# Added to the variance, so that a song of constant value becomes zeros, not NaN.
_VARIANCE_EPS = 1e-6


def num_frames(num_samples: int, hop_length: int = HOP_LENGTH) -> int:
    """Return the number of frames that `log_mel` gives for `num_samples` samples (frames are centred)."""
    return 1 + num_samples // hop_length


@lru_cache(maxsize=8)
def _log_mel_transform(sample_rate: int, n_fft: int, hop_length: int, n_mels: int, top_db: float) -> nn.Module:
    return nn.Sequential(
        torchaudio.transforms.MelSpectrogram(
            sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels, power=2.0, center=True
        ),
        torchaudio.transforms.AmplitudeToDB(stype="power", top_db=top_db),
    )


def log_mel(
    samples: NDArray[np.float32],
    *,
    sample_rate: int = SAMPLE_RATE,
    n_fft: int = N_FFT,
    hop_length: int = HOP_LENGTH,
    n_mels: int = N_MELS,
    top_db: float = TOP_DB,
) -> NDArray[np.float16]:
    """Compute the mel power spectrogram in dB.

    HTK mel scale from 0 Hz to half the sample rate, filters of height one, reflected at both ends. Values
    more than `top_db` below the song's loudest are raised to that floor. float16 resolves 0.06 dB or better.

    Args:
        samples: float32 [n], mono; more than n_fft // 2 of them.

    Returns:
        float16 [num_frames(n), n_mels], in dB.

    Raises:
        ValueError: samples not one-dimensional or too few for the reflection.
    """
    if samples.ndim != 1 or len(samples) <= n_fft // 2:
        raise ValueError(
            f"log_mel needs mono samples [n] with n > n_fft // 2 = {n_fft // 2}, got shape {samples.shape}; "
            "decode_audio rejects shorter files as too_short"
        )
    transform = _log_mel_transform(sample_rate, n_fft, hop_length, n_mels, top_db)
    with torch.no_grad():
        mel = transform(torch.tensor(samples, dtype=torch.float32))
    return np.ascontiguousarray(mel.numpy().T, dtype=np.float16)


def pad_batch(mels: Sequence[NDArray[np.float16]]) -> tuple[Tensor, Tensor]:
    """Stack songs of different length, zeros behind the shorter ones.

    Args:
        mels: arrays [frames, n_mels] with one n_mels; at least one.

    Returns:
        float32 [batch, max frames, n_mels] and the number of real frames, int64 [batch].
    """
    lengths = torch.tensor([len(mel) for mel in mels], dtype=torch.int64)
    batch = torch.zeros(len(mels), int(lengths.max()), mels[0].shape[1])
    for row, mel in zip(batch, mels, strict=True):
        row[: len(mel)] = torch.tensor(mel)
    return batch, lengths


def normalize(mel: Tensor, num_frames: Tensor) -> Tensor:
    """Give each song zero mean and unit variance over its real frames and all mels; padded frames become 0.

    Mean and (population) variance are one number per song, so its spectral shape stays. Padding has no
    influence.

    Args:
        mel: float32 [batch, frames, n_mels], in dB.
        num_frames: int64 [batch], real frames of each song; at least 1.

    Returns:
        float32 [batch, frames, n_mels].
    """
    real = torch.arange(mel.shape[1], device=mel.device)[None, :, None] < num_frames.to(mel.device)[:, None, None]
    count = (num_frames.to(mel.device) * mel.shape[2])[:, None, None]
    mean = mel.where(real, 0.0).sum(dim=(1, 2), keepdim=True) / count
    centred = (mel - mean).where(real, 0.0)
    variance = centred.square().sum(dim=(1, 2), keepdim=True) / count
    return centred / (variance + _VARIANCE_EPS).sqrt()


def normalize_reference(mel: Tensor) -> Tensor:
    """Normalise as the authors do: mean and variance over all frames, the padding included.

    For `reference_parity` only: the result depends on the length of the padding.

    Args:
        mel: float32 [batch, full length, n_mels], padded with zeros to the full length.

    Returns:
        float32 [batch, full length, n_mels].
    """
    variance, mean = torch.var_mean(mel, dim=(1, 2), correction=0, keepdim=True)
    return (mel - mean) / (variance + _VARIANCE_EPS).sqrt()
