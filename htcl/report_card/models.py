"""Trains the models of the report card where they are not published yet, and embeds its songs with them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.embeddings.embedder import SongEmbedder
from htcl.evaluation.collapse import directed
from htcl.logs import Progress, get_logger, log
from htcl.plan import plan
from htcl.report_card.variants import Steps, Variant
from htcl.shards.index import read_index
from htcl.shards.reader import ShardReader
from htcl.training.launch import run_stage
from htcl.training.samples import stage1_samples, stage2_samples

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

LOGGER = get_logger("report_card")
_BATCH = 64


def training_steps(config: PipelineConfig, inputs: dict[str, str]) -> Steps:
    """Steps that the stages take; catalog, shards and pairs must be published.

    Args:
        config: the configuration.
        inputs: from `htcl.plan.raw_inputs`.
    """
    store, steps = ArtifactStore(config.workspace), plan(config, inputs=inputs)
    index = read_index(store.fetch("shards", steps["shards"].key))
    pairs = stage2_samples(index, store.fetch("pairs", steps["pairs"].key), False)
    epoch = len(stage1_samples(index).songs) // config.stage1.global_batch_size
    pair_epoch = len(pairs.songs) // config.stage2.global_batch_size
    return Steps(epoch * config.stage1.epochs, pair_epoch * config.stage2.epochs, epoch)


def model_key(config: PipelineConfig, variant: Variant, steps: Steps, inputs: dict[str, str]) -> str:
    """The key of a variant's model, whether it is there or not; see `train_variant`."""
    return plan(variant.config(config, steps), inputs=inputs)[variant.stage].key


def train_variant(config: PipelineConfig, variant: Variant, steps: Steps, inputs: dict[str, str]) -> None:
    """See that a variant's model is there.

    Args:
        config: the configuration that it changes.
        variant: what is trained.
        steps: from `training_steps`.
        inputs: from `htcl.plan.raw_inputs`.

    Raises:
        HTCLError: when the training fails.
    """
    own = variant.config(config, steps)
    for stage in ("stage1", "stage2")[: 1 if variant.stage == "stage1" else 2]:
        step = plan(own, inputs=inputs)[stage]
        if not step.published:
            log(LOGGER, "training", variant=variant.name, stage=stage, key=step.key)
            run_stage(own, step, lambda line: print(line, flush=True))


def embed_songs(embedder: SongEmbedder, reader: ShardReader, index: pa.Table, rows: Int64, seed: int) -> Float32:
    """Unit audio embeddings of index rows [n, d]; a song without a direction gets a random one.

    Args:
        embedder: the model.
        reader: of the shards.
        index: of the shards.
        rows: index rows [n].
        seed: of random directions.
    """
    found = np.empty((len(rows), list(embedder.model.config.projection_sizes)[-1]), np.float32)
    progress = Progress(LOGGER, "songs embedded", len(rows))
    for done, part in _by_length(index, rows):
        found[part] = embedder.embed_songs(reader.read(rows[part]))[0]
        progress.update(done)
    return directed(found, seed)[0]


def _by_length(index: pa.Table, rows: Int64) -> Iterator[tuple[int, Int64]]:
    """(songs so far, places in `rows`) of batches of about one length: little padding."""
    order = np.argsort(np.asarray(index["frames"])[rows], kind="stable")
    for start in range(0, len(order), _BATCH):
        part = order[start : start + _BATCH]
        yield start + len(part), part
