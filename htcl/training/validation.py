"""What a model that has just been trained does on songs that it has not seen, for its log and its card."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.distributed as dist

from htcl.embedding import Float32, unit
from htcl.evaluation.results import Result, per_query_table, summarise
from htcl.evaluation.retrieval import evaluate_retrieval
from htcl.models import HTCLModel
from htcl.shards.order import Int64
from htcl.training.batches import Songs

SONGS = 500
"""Songs that are looked at, at most; the evaluation of the pipeline looks at all of its own side."""
_BATCH = 16


def validate(model: HTCLModel, songs: Songs, system: str, device: torch.device) -> list[Result]:
    """Text-to-audio and audio-to-text retrieval among songs of the validation side; every rank calls it.

    Args:
        model: is left in evaluation mode.
        songs: reads the rows of the index.
        system: name of the model in the results.
        device: where the model is.

    Returns:
        Figures with their bootstrap intervals, the same on every rank; none without such songs.
    """
    rows = np.flatnonzero(np.asarray(pc.equal(songs.index["split"], "validation"))).astype(np.int64)[:SONGS]
    model.train(False)
    own = rows[dist.get_rank() :: dist.get_world_size()]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, (own, *_embed(model, songs, own, device)))
    rows, audio, text = (np.concatenate([part[view] for part in parts]) for view in range(3))
    if not len(rows):
        return []
    queries = songs.index["track_id"].take(pa.array(rows)).to_pylist()
    found = evaluate_retrieval(system, audio, text).items()
    return summarise(
        pa.concat_tables(per_query_table(system, task, "validation", queries, metrics) for task, metrics in found)
    )


@torch.inference_mode()
def _embed(model: HTCLModel, songs: Songs, rows: Int64, device: torch.device) -> tuple[Float32, Float32]:
    """Unit audio and text embeddings [n, size] each."""
    size = list(model.config.projection_sizes)[-1]
    audio, text = [np.zeros((0, size), np.float32)], [np.zeros((0, size), np.float32)]
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        inputs = {name: tensor.to(device) for name, tensor in songs.inputs(part, songs.mels(part)).items()}
        audio.append(unit(model.get_audio_features(inputs["input_features"], inputs.get("attention_mask"))))
        words = (inputs["input_ids"], inputs["text_attention_mask"], inputs.get("token_type_ids"))
        text.append(unit(model.get_text_features(*words)))
    return np.concatenate(audio), np.concatenate(text)
