"""MFCC statistics: what timbre alone says of a song."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.fft import dct

Float32 = npt.NDArray[np.float32]

COEFFICIENTS = 20


def mfcc_statistics(mel: npt.NDArray[np.float16]) -> Float32:
    """Mean and deviation over time of 20 MFCCs and of their first and second differences.

    Args:
        mel: log-mel [frames, n_mels], dB; at least 3 frames.

    Returns:
        float32 [120].
    """
    cepstrum = dct(mel.astype(np.float32), norm="ortho", axis=1)[:, :COEFFICIENTS]
    parts = [np.diff(cepstrum, order, axis=0) for order in range(3)]
    return np.concatenate([of(part, axis=0) for part in parts for of in (np.mean, np.std)]).astype(np.float32)


def standardised(statistics: Float32, train: npt.NDArray[np.bool_]) -> Float32:
    """Statistics [n, 120] with zero mean and unit variance over the training songs, so that no coefficient rules."""
    mean, deviation = statistics[train].mean(axis=0), statistics[train].std(axis=0)
    return np.asarray((statistics - mean) / np.where(deviation > 0, deviation, 1), np.float32)
