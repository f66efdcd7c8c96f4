"""Train, validation and test by split group: a function of the group's name alone."""

from __future__ import annotations

import hashlib

from htcl.config import SplitConfig


def split_of(split_group: str, config: SplitConfig) -> str:
    """The side that a group is on, whole: "train", "validation" or "test".

    It depends on nothing but the name, the shares and the seed, so a growing catalog never moves a song.
    """
    digest = hashlib.sha256(f"{config.seed}:{split_group}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < config.test_share:
        return "test"
    return "validation" if position < config.test_share + config.validation_share else "train"
