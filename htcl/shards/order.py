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


def step_samples(order: Int64, step_in_epoch: int, batch_size: int, rank: int, world_size: int) -> Int64:
    """The samples of one rank in one step: its contiguous part of the global batch.

    The parts of all ranks, joined in rank order, are the same batch whatever their number.
    """
    local = batch_size // world_size
    start = step_in_epoch * batch_size + rank * local
    return order[start : start + local]
