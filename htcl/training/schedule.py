"""Which samples each step reads, and which of their songs a rank encodes: functions of (seed, epoch, global step)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from htcl.shards.order import Int64, epoch_order
from htcl.training.neighbourhoods import mixed_order
from htcl.training.samples import Int32, Samples

SHUFFLE_WINDOW = 256
"""Shards shuffled together: with the default size, 64 GB of log-mels."""


@dataclass(frozen=True)
class Schedule:
    """The samples of every step, the same whatever the number of ranks.

    Attributes:
        samples: what the stage trains on.
        batch_size: samples of a global batch.
        epochs: passes over the samples.
        seed: of the run.
        hard_negative_share: share of each batch drawn from one neighbourhood of the pair graph.
    """

    samples: Samples
    batch_size: int
    epochs: int
    seed: int
    hard_negative_share: float = 0.0

    @property
    def steps_an_epoch(self) -> int:
        """Whole global batches in the samples; the few that are left over differ by epoch."""
        return len(self.samples.songs) // self.batch_size

    @property
    def total_steps(self) -> int:
        """Steps of the whole stage."""
        return self.steps_an_epoch * self.epochs

    def steps(self, first_step: int = 0) -> Iterator[tuple[int, Int64]]:
        """(step, index rows of the global batch [batch, 1 or 2]) from a global step on."""
        order = np.zeros(0, dtype=np.int64)
        for step in range(first_step, self.total_steps):
            epoch, inside = divmod(step, self.steps_an_epoch)
            if inside == 0 or not len(order):
                order = self._order(epoch)
            start = inside * self.batch_size
            yield step, self.samples.songs[order[start : start + self.batch_size]]

    def _order(self, epoch: int) -> Int64:
        order = epoch_order(self.samples.blocks, SHUFFLE_WINDOW, self.seed, epoch)
        if not self.hard_negative_share:
            return order
        near = round(self.hard_negative_share * self.batch_size)
        return mixed_order(self.samples.songs, order, self.batch_size, near, [self.seed, epoch])


@dataclass(frozen=True)
class Assignment:
    """Who encodes what in one step.

    Attributes:
        songs: index rows that this rank encodes, longest first; as many on every rank.
        places: row of each sample's songs [batch, 1 or 2] among the embeddings of all ranks, in rank order.
    """

    songs: Int64
    places: Int64


def assign_songs(batch: Int64, frames: Int32, rank: int, world_size: int) -> Assignment:
    """Share out the songs of a global batch: each is encoded once, and all ranks get a like mix of lengths.

    Where the songs do not divide evenly, the shortest is encoded again and the repetition is not used.

    Args:
        batch: index rows [batch, 1 or 2].
        frames: length of each index row.
        rank: of this process.
        world_size: number of ranks.
    """
    distinct, inverse = np.unique(batch, return_inverse=True)
    order = np.lexsort((distinct, -frames[distinct].astype(np.int64)))
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    count = -(-len(distinct) // world_size)
    dealt = np.pad(distinct[order], (0, count * world_size - len(order)), mode="edge")
    places = (position % world_size) * count + position // world_size
    return Assignment(dealt[rank::world_size], places[inverse].reshape(batch.shape))


def assign_occurrences(batch: Int64, rank: int, world_size: int) -> Assignment:
    """The authors' way, for `reference_parity`: a rank encodes its samples' songs as often as they occur.

    Its anchors come first, then their positives.
    """
    samples, width = batch.shape
    local = samples // world_size
    row = np.arange(samples)
    places = (row // local)[:, None] * (local * width) + np.arange(width) * local + (row % local)[:, None]
    return Assignment(batch[rank * local : (rank + 1) * local].T.ravel(), places)
