"""Train, validation and test by split group and artist: a function of their names alone."""

from __future__ import annotations

import hashlib

from htcl.config import SplitConfig


def split_of(split_group: str, config: SplitConfig, artist: str | None = None) -> str:
    """The side that a song's group is on: "train", "validation" or "test".

    It depends on nothing but names, shares and the seed, so a growing catalog never moves a song. Songs of held-out
    artists are test songs; a group that holds others, too, then lies on two sides and is trained on as a whole
    (`htcl.duplicates`).
    """
    if artist and _position(f"{config.seed}:artist:{artist}") < config.test_artist_share:
        return "test"
    position = _position(f"{config.seed}:{split_group}")
    if position < config.test_share:
        return "test"
    return "validation" if position < config.test_share + config.validation_share else "train"


def _position(name: str) -> float:
    """A place in [0, 1) for each name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
