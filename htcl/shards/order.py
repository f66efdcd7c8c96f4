"""The order of training samples: a function of (seed, epoch) that no rank, restart or worker changes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


def epoch_order(blocks: Int64, window: int, seed: int, epoch: int) -> Int64:
    """Order of all samples in one epoch.

    Blocks (shards) are permuted, then samples are shuffled among those of `window` neighbouring blocks, so that
    reads of object storage stay few and large. A window of all blocks is the full shuffle.

    Args:
        blocks: block of each sample [n], numbered from 0.
        window: blocks that are shuffled together, at least 1.
        seed: of the run.
        epoch: from 0.

    Returns:
        Sample numbers [n], a permutation.
    """
    generator = np.random.default_rng([seed, epoch])
    count = int(blocks.max(initial=-1)) + 1
    position = np.empty(count, dtype=np.int64)
    position[generator.permutation(count)] = np.arange(count)
    key = position[blocks] // window
    return np.lexsort((generator.random(len(blocks)), key)).astype(np.int64)
