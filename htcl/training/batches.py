"""Batches of either stage: index rows to log-mels and texts, to model inputs and what the loss must know."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import torch
from torch import Tensor

from htcl.audio.features import num_frames
from htcl.config import LossWeights, Stage2Config, StageConfig
from htcl.ingest.catalog import CATALOG_FILE
from htcl.models import HTCLProcessor
from htcl.shards.index import rows_of
from htcl.shards.order import Int64
from htcl.shards.reader import Mel, ShardReader
from htcl.text import joined_parts, metadata_parts, metadata_text
from htcl.training.augment import (
    TEXT_VERSIONS,
    crop_frames,
    drop_parts,
    mask_bands,
    song_generator,
    version_generator,
)
from htcl.training.losses import EQUAL_WEIGHTS, Corrections, PairCorrections
from htcl.training.samples import Float32, Int32
from htcl.training.schedule import Assignment, Schedule, assign_occurrences, assign_songs

READ_AHEAD, READ_AHEAD_BYTES = 3, 1 << 29
"""Batches that are read before they are needed, fewer where they are large, but one always."""
LEAST_BUCKET, PADDING_SHARE = 8, 0.15
"""Songs of about one length are encoded together: at least so many, and with at most this share of padding beyond."""
ENOUGH_FRAMES = 40_000
"""More of them in one part is no faster: on a CPU it outgrows the caches."""

MicroBatch = dict[str, Tensor]
"""Model inputs of some songs, and `songs`, their index rows, and `texts`, a number for each different text."""


@dataclass(frozen=True)
class Batch:
    """One step of one rank.

    Attributes:
        step: the global step, from 0.
        micro_batches: inputs of the songs that this rank encodes, longest first.
        places: row of each sample's songs [batch, 1 or 2] among the embeddings of all ranks.
        own: samples whose loss this rank computes, int64 [rows].
        groups: split group of each sample's songs [batch, 1 or 2].
        known: (own row, column) positions [n, 2] of known positives: of the own anchors among the positives of the
            batch, and of the own positives among its anchors.
        log_q: log probability [batch, 2, 2] that a place of a sample (anchor, positive; last axis) holds a song of
            this sample (its anchor, its positive); None without correction.
        mask: whether false negatives are masked.
        weights: of the terms of stage 2's loss.
    """

    step: int
    micro_batches: list[MicroBatch]
    places: Tensor
    own: Tensor
    groups: Tensor
    known: tuple[Tensor, Tensor] | None = None
    log_q: Tensor | None = None
    mask: bool = True
    weights: LossWeights = EQUAL_WEIGHTS

    @property
    def size_bytes(self) -> int:
        """Memory of the inputs."""
        return sum(tensor.nbytes for part in self.micro_batches for tensor in part.values())

    def between_songs(self) -> Corrections:
        """For audio against text: own anchors, then own positives, against all songs of the batch."""
        columns = self.groups.T.flatten()
        rows = torch.cat([self.own + side * len(self.groups) for side in range(self.groups.shape[1])])
        # A song is drawn into the 2 x batch by either place.
        log_q = None if self.log_q is None else (torch.logsumexp(self.log_q, dim=2) - math.log(2)).T.flatten()
        return Corrections(columns[rows][:, None] == columns if self.mask else None, log_q)

    def between_pairs(self) -> PairCorrections:
        """For all comparisons of stage 2."""
        return PairCorrections(self.between_songs(), self._preference(0, 1), self._preference(1, 0))

    def _preference(self, side: int, other: int) -> Corrections:
        log_q = None if self.log_q is None else self.log_q[:, other, other]
        if not self.mask:
            return Corrections(None, log_q)
        own, columns = self.own, self.groups[:, other]
        # Neither the song itself nor another version of its positive is a negative.
        masked = (self.groups[own, side][:, None] == columns) | (self.groups[own, other][:, None] == columns)
        if self.known is not None:
            rows, found = self.known[side].unbind(1)
            masked[rows, found] = True
        return Corrections(masked, log_q)

    def to(self, device: torch.device | str) -> Batch:
        """The same with all tensors on a device."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return replace(
            self,
            micro_batches=[{name: moved(tensor) for name, tensor in part.items()} for part in self.micro_batches],
            places=moved(self.places),
            own=moved(self.own),
            groups=moved(self.groups),
            known=None if self.known is None else (moved(self.known[0]), moved(self.known[1])),
            log_q=None if self.log_q is None else moved(self.log_q),
        )


class Songs:
    """Log-mels and texts of index rows, as tensors that the model reads."""

    def __init__(
        self, shards_uri: str, index: pa.Table, catalog_folder: Path, fields: list[str], processor: HTCLProcessor
    ) -> None:
        self.index, self._reader = index, ShardReader(shards_uri, index)
        self._fields, self._processor = fields, processor
        columns = list(dict.fromkeys(["track_id", *fields]))
        catalog = ds.dataset(catalog_folder / CATALOG_FILE).to_table(columns=columns)
        place = rows_of(catalog.select(["track_id"]), index["track_id"])
        self._metadata = catalog.take(pa.array(place)).combine_chunks()

    def texts(self, rows: Int64) -> list[str]:
        """Metadata texts of index rows."""
        return [metadata_text(row, self._fields) for row in self._metadata.take(pa.array(rows)).to_pylist()]

    def _versions(self, rows: Int64, versions: Int64, dropout: float, seed: int) -> list[str]:
        """Versions of the texts of index rows, some of whose parts are left out."""
        found = self._metadata.take(pa.array(rows)).to_pylist()
        return [
            joined_parts(drop_parts(metadata_parts(song, self._fields), dropout, version_generator(seed, row, version)))
            for song, row, version in zip(found, rows.tolist(), versions.tolist(), strict=True)
        ]

    def mels(self, rows: Int64) -> list[Mel]:
        """Log-mels [frames, n_mels] of index rows, read together."""
        return self._reader.read(rows)

    def crop_frames(self, stage: StageConfig | None) -> int | None:
        """Most frames of a song that a step of a stage reads; None for all."""
        if stage is None or stage.crop_seconds is None:
            return None
        audio = self._processor.audio_config
        return num_frames(round(stage.crop_seconds * audio.sample_rate), audio.hop_length)

    def inputs(
        self, rows: Int64, mels: list[Mel], stage: StageConfig | None = None, seed: int = 0, step: int = 0
    ) -> MicroBatch:
        """Model inputs of index rows: audio and text with their masks.

        Args:
            rows: index rows [n].
            mels: their log-mels.
            stage: whose augmentation is used; None for none.
            seed: of the run.
            step: the global step.
        """
        generators = [song_generator(seed, step, int(row)) for row in rows] if stage and stage.augments else []
        if most := self.crop_frames(stage):
            mels = [crop_frames(mel, most, generator) for mel, generator in zip(mels, generators, strict=True)]
        audio = self._processor.from_mels(mels)
        if stage and (stage.time_mask_ratio or stage.frequency_mask_ratio):
            lengths = audio["attention_mask"].sum(dim=1).tolist()
            for song, length, generator in zip(audio["input_features"], lengths, generators, strict=True):
                mask_bands(song[:length], stage.time_mask_ratio, stage.frequency_mask_ratio, generator)
        if not stage or not stage.text_field_dropout:
            return model_inputs(audio, self._processor(text=self.texts(rows)), rows)
        versions = np.array([generator.integers(TEXT_VERSIONS) for generator in generators], np.int64)
        texts = self._versions(rows, versions, stage.text_field_dropout, seed)
        return model_inputs(audio, self._processor(text=texts), rows, rows * TEXT_VERSIONS + versions)


def model_inputs(
    audio: Mapping[str, Tensor], text: Mapping[str, Tensor], rows: Int64, texts: Int64 | None = None
) -> MicroBatch:
    """One micro-batch.

    Args:
        audio: what the processor made of the audio of index rows.
        text: and of their texts.
        rows: index rows [n].
        texts: numbers of the texts [n]; None where a song has but one.
    """
    inputs = {**audio, "songs": torch.from_numpy(rows), "texts": torch.from_numpy(rows if texts is None else texts)}
    if audio["attention_mask"].all():
        del inputs["attention_mask"]  # attention without a mask is faster
    return {**inputs, **{("text_attention_mask" if name == "attention_mask" else name): t for name, t in text.items()}}


@dataclass(frozen=True)
class Loader:
    """Makes the batches of one rank.

    Attributes:
        schedule: what every step reads.
        songs: where it is read from.
        stage: recipe: augmentation, masks, corrections.
        rank: of this process.
        world_size: number of ranks.
        micro_batch_size: songs encoded at once; None for all (see `micro_batches`).
        reference_parity: the authors' batches: every occurrence of a song encoded, no masks.
    """

    schedule: Schedule
    songs: Songs
    stage: StageConfig
    rank: int
    world_size: int
    micro_batch_size: int | None = None
    reference_parity: bool = False

    def batches(self, first_step: int = 0) -> Iterator[Batch]:
        """The batches from a global step on, the next ones being read while one is trained on."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
            upcoming: deque[Future[Batch]] = deque()
            ahead = 1
            for step, rows in self.schedule.steps(first_step):
                upcoming.append(pool.submit(self._load, step, rows))
                if len(upcoming) > ahead:
                    batch = upcoming.popleft().result()
                    ahead = max(min(READ_AHEAD, READ_AHEAD_BYTES // batch.size_bytes), 1)
                    yield batch
            while upcoming:
                yield upcoming.popleft().result()

    def _load(self, step: int, rows: Int64) -> Batch:
        samples = self.schedule.samples
        assigned = self._assign(rows)
        mels, seed = self.songs.mels(assigned.songs), self.schedule.seed
        frames = self._frames[assigned.songs]
        # The authors pad all songs alike.
        parts = micro_batches(np.ones_like(frames) if self.reference_parity else frames, self.micro_batch_size)
        inputs = [self.songs.inputs(assigned.songs[at], mels[at], self.stage, seed, step) for at in parts]
        places, groups = torch.from_numpy(assigned.places), torch.from_numpy(samples.groups[rows].astype(np.int64))
        weights = self.stage.loss_weights if isinstance(self.stage, Stage2Config) else EQUAL_WEIGHTS
        if self.reference_parity:
            return Batch(step, inputs, places, torch.arange(len(rows)), groups, mask=False, weights=weights)
        local = len(rows) // self.world_size
        own = np.arange(self.rank * local, (self.rank + 1) * local)
        return Batch(
            step,
            inputs,
            places,
            torch.from_numpy(own),
            groups,
            self._known(groups.numpy(), own),
            self._log_q(rows),
            self.stage.mask_false_negatives,
            weights,
        )

    def _assign(self, rows: Int64) -> Assignment:
        if self.reference_parity:
            return assign_occurrences(rows, self.rank, self.world_size)
        return assign_songs(rows, self._frames, self.rank, self.world_size)

    @cached_property
    def _frames(self) -> Int32:
        """Frames of each index row that a step reads."""
        most = self.songs.crop_frames(self.stage)
        return self.schedule.samples.frames if most is None else np.minimum(self.schedule.samples.frames, most)

    def _known(self, groups: Int64, own: Int64) -> tuple[Tensor, Tensor] | None:
        graph = self.schedule.samples.known
        if graph is None:
            return None
        forth, back = (graph.among(groups[own, side], groups[:, 1 - side]) for side in (0, 1))
        return torch.from_numpy(forth), torch.from_numpy(back)

    def _log_q(self, rows: Int64) -> Tensor | None:
        if not isinstance(self.stage, Stage2Config) or not self.stage.popularity_correction:
            return None
        return torch.from_numpy(self._log_probability[rows])

    @cached_property
    def _log_probability(self) -> Float32:
        return self.schedule.samples.log_q()


def micro_batches(frames: Int32, size: int | None) -> list[slice]:
    """Cut songs that are sorted by length into parts that are encoded at once.

    Args:
        frames: of each song [n], descending.
        size: songs of a part; None cuts where it saves padding, and what has more than ENOUGH_FRAMES.
    """
    if size:
        return [slice(start, start + size) for start in range(0, len(frames), size)]
    parts, start = [], 0
    for end in range(1, len(frames)):
        padded = 1 - frames[end] / frames[start] > PADDING_SHARE
        large = (end - start + 1) * frames[start] > ENOUGH_FRAMES
        if end - start >= LEAST_BUCKET and len(frames) - end >= LEAST_BUCKET and (padded or large):
            parts.append(slice(start, end))
            start = end
    return [*parts, slice(start, len(frames))]
