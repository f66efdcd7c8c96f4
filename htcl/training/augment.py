"""Augmentation of texts and log-mels; off unless the configuration says otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from htcl.shards.reader import Mel

TEXT_VERSIONS = 8
"""A song's text comes in so many versions where parts are left out: a frozen text encoder reads each once."""


def song_generator(seed: int, step: int, row: int) -> np.random.Generator:
    """Random numbers of one song in one step: the same on any rank and in a resumed run."""
    return np.random.default_rng([seed, step, row])


def drop_parts(parts: Sequence[str], rate: float, generator: np.random.Generator) -> list[str]:
    """Leave out each part of a text with probability `rate`, so that no single one is relied on; one always stays.

    Args:
        parts: of the song's text, in order; without any, none are left.
        rate: probability.
        generator: of this version of the text.
    """
    kept = generator.random(len(parts)) >= rate
    if parts and not kept.any():
        kept[generator.integers(len(parts))] = True
    return [part for part, keep in zip(parts, kept, strict=True) if keep]


def version_generator(seed: int, row: int, version: int) -> np.random.Generator:
    """Random numbers of one version of a song's text: the same in every step."""
    return np.random.default_rng([seed, row, version])


def crop_frames(mel: Mel, frames: int, generator: np.random.Generator) -> Mel:
    """So many frames of a song from a place drawn at random; a shorter song is left whole.

    A few seconds at a time are a standard augmentation of contrastive training on music (Spijkervet & Burgoyne 2021).

    Args:
        mel: log-mel [frames, n_mels].
        frames: most that are kept.
        generator: of the song.
    """
    start = int(generator.integers(max(len(mel) - frames, 0) + 1))
    return mel[start : start + frames]


def mask_bands(features: Tensor, time_ratio: float, frequency_ratio: float, generator: np.random.Generator) -> None:
    """Set one band of frames and one of mels to 0, the mean, in place (SpecAugment; Park et al. 2019).

    Args:
        features: one song's normalised log-mel [frames, n_mels], without padding.
        time_ratio: greatest share of the frames that is masked.
        frequency_ratio: greatest share of the mels that is masked.
        generator: of the song.
    """
    for axis, ratio in ((0, time_ratio), (1, frequency_ratio)):
        size = features.shape[axis]
        width = int(generator.integers(int(ratio * size) + 1))
        start = int(generator.integers(size - width + 1))
        features.narrow(axis, start, width).zero_()
