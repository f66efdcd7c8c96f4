"""Batches of either stage: index rows or pairs, to log-mels and texts, to model inputs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from torch import Tensor

from htcl.errors import HTCLError
from htcl.ingest.catalog import CATALOG_FILE
from htcl.models import HTCLProcessor
from htcl.pairs import PAIRS_FOLDER
from htcl.shards.index import rows_of
from htcl.shards.order import Int64, epoch_order, step_samples
from htcl.shards.reader import ShardReader
from htcl.text import metadata_text

SHUFFLE_WINDOW = 256
"""Shards shuffled together: with the default size, 64 GB of log-mels."""


@dataclass(frozen=True)
class Samples:
    """What a stage trains on.

    Attributes:
        songs: index rows: [n, 1] songs in stage 1, [n, 2] anchor and positive in stage 2.
        blocks: shard of each sample's first song [n], numbered from 0.
    """

    songs: Int64
    blocks: Int64


class Songs:
    """Log-mels and texts of index rows, as tensors that the model reads."""

    def __init__(
        self, shards_uri: str, index: pa.Table, catalog_folder: Path, fields: list[str], processor: HTCLProcessor
    ) -> None:
        self._reader = ShardReader(shards_uri, index)
        self._fields, self._processor = fields, processor
        columns = list(dict.fromkeys(["track_id", *fields]))
        catalog = ds.dataset(catalog_folder / CATALOG_FILE).to_table(columns=columns)
        place = rows_of(catalog.select(["track_id"]), index["track_id"])
        self._metadata = catalog.take(pa.array(place)).combine_chunks()

    def texts(self, rows: Int64) -> list[str]:
        """Metadata texts of index rows."""
        found = self._metadata.take(pa.array(rows)).to_pylist()
        return [metadata_text(row, self._fields) for row in found]

    def inputs(self, rows: Int64) -> dict[str, Tensor]:
        """Model inputs of index rows: audio and text with their masks."""
        audio = self._processor.from_mels(self._reader.read(rows))
        text = dict(self._processor(text=self.texts(rows)))
        text["text_attention_mask"] = text.pop("attention_mask")
        return {**audio, **text}


def stage1_samples(index: pa.Table) -> Samples:
    """Every song of the training side."""
    rows = np.flatnonzero(np.asarray(pc.equal(index["split"], "train"))).astype(np.int64)
    return Samples(rows[:, None], _blocks(index, rows))


def stage2_samples(index: pa.Table, pairs_folder: Path) -> Samples:
    """Every training pair whose two songs have audio.

    Raises:
        HTCLError: when a pair of the training side touches a held-out song: the split leaks.
    """
    pairs = ds.dataset(pairs_folder / PAIRS_FOLDER, format="parquet").to_table(
        columns=["anchor_id", "positive_id"], filter=pc.field("split") == "train"
    )
    # A pair may come from both sources; it is one sample.
    pairs = (
        pairs.group_by(["anchor_id", "positive_id"])
        .aggregate([])
        .sort_by([("anchor_id", "ascending"), ("positive_id", "ascending")])
    )
    songs = np.stack([rows_of(index, pairs["anchor_id"]), rows_of(index, pairs["positive_id"])], axis=1)
    songs = songs[(songs >= 0).all(axis=1)]
    sides = np.asarray(index["split"]).astype(str)
    if len(songs) and (sides[songs] != "train").any():
        raise HTCLError("pairs and shards disagree about the split; run the pipeline again from the catalog")
    return Samples(songs, _blocks(index, songs[:, 0]))


def _blocks(index: pa.Table, rows: Int64) -> Int64:
    codes = pc.dictionary_encode(index["shard"].combine_chunks()).indices
    return np.asarray(codes)[rows].astype(np.int64)


@dataclass(frozen=True)
class Schedule:
    """Which samples each step of a rank reads."""

    samples: Samples
    batch_size: int
    epochs: int
    seed: int
    rank: int
    world_size: int

    @property
    def steps_an_epoch(self) -> int:
        """Whole global batches in the samples; the few that are left over differ by epoch."""
        return len(self.samples.songs) // self.batch_size

    @property
    def total_steps(self) -> int:
        """Steps of the whole stage."""
        return self.steps_an_epoch * self.epochs

    def songs(self, first_step: int) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """(step, index rows [local batch, 1 or 2]) from a global step on."""
        order = np.zeros(0, dtype=np.int64)
        for step in range(first_step, self.total_steps):
            epoch, inside = divmod(step, self.steps_an_epoch)
            if inside == 0 or not len(order):
                order = epoch_order(self.samples.blocks, SHUFFLE_WINDOW, self.seed, epoch)
            picked = step_samples(order, inside, self.batch_size, self.rank, self.world_size)
            yield step, self.samples.songs[picked]


def batches(schedule: Schedule, songs: Songs, first_step: int = 0) -> Iterator[tuple[int, Int64, dict[str, Tensor]]]:
    """(step, index rows, model inputs), the next batch being read while one is trained on.

    The inputs hold the anchors first and then the positives.
    """

    def load(item: tuple[int, Int64]) -> tuple[int, Int64, dict[str, Any]]:
        step, rows = item
        return step, rows, songs.inputs(rows.T.ravel())

    items = schedule.songs(first_step)
    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = None
        for item in items:
            following = pool.submit(load, item)
            if upcoming is not None:
                yield upcoming.result()
            upcoming = following
        if upcoming is not None:
            yield upcoming.result()
