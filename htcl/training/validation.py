"""What a model that has just been trained does on songs that it has not seen, for its log and its card."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch.distributed as dist

from htcl.embeddings.embedder import Float32, SongEmbedder
from htcl.evaluation.results import Result, per_query_table, summarise
from htcl.evaluation.retrieval import evaluate_retrieval
from htcl.models import HTCLModel, HTCLProcessor
from htcl.shards.order import Int64
from htcl.training.batches import Songs

SONGS = 500
"""Songs that are looked at, at most; the evaluation of the pipeline looks at all of its own side."""
_BATCH = 16


def validate(model: HTCLModel, processor: HTCLProcessor, songs: Songs, system: str) -> list[Result]:
    """Text-to-audio and audio-to-text retrieval among songs of the validation side; every rank calls it.

    Args:
        model: is left in evaluation mode.
        processor: the model's.
        songs: reads the rows of the index.
        system: name of the model in the results.

    Returns:
        Figures with their bootstrap intervals, the same on every rank; none without such songs.
    """
    rows = np.flatnonzero(np.asarray(pc.equal(songs.index["split"], "validation"))).astype(np.int64)[:SONGS]
    embedder = SongEmbedder(model, processor)
    own = rows[dist.get_rank() :: dist.get_world_size()]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, (own, *_embed(embedder, songs, own)))
    rows, audio, text = (np.concatenate([part[view] for part in parts]) for view in range(3))
    if not len(rows):
        return []
    queries = songs.index["track_id"].take(pa.array(rows)).to_pylist()
    found = evaluate_retrieval(system, audio, text).items()
    return summarise(
        pa.concat_tables(per_query_table(system, task, "validation", queries, metrics) for task, metrics in found)
    )


def _embed(embedder: SongEmbedder, songs: Songs, rows: Int64) -> tuple[Float32, Float32]:
    """Unit audio and text embeddings [n, size] each."""
    nothing = np.zeros((0, list(embedder.model.config.projection_sizes)[-1]), np.float32)
    audio, text = [nothing], [nothing]
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        audio.append(embedder.embed_songs(songs.mels(part))[0])
        text.append(embedder.embed_texts(songs.texts(part)))
    return np.concatenate(audio), np.concatenate(text)
