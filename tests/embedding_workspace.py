"""A workspace in which songs can be embedded at once: shards of noise, a catalog, models with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from transformers import BertTokenizer

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.ingest.catalog import CATALOG_FILE, CHECKED_CATALOG
from htcl.models import HTCLConfig, HTCLModel, HTCLProcessor
from htcl.plan import Step, plan
from htcl.schemas import SHARDS
from htcl.shards.index import write_index
from htcl.shards.writer import ShardEntry, ShardWriter

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(1000))]
N_MELS = 16
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
TINY_AUDIO = {"n_mels": N_MELS, "conv_filters": [16, 16, 16], **TINY}
TINY_TEXT = {"vocab_size": len(WORDS), "max_position_embeddings": 32, "initializer_range": 0.5, **TINY}


@dataclass(frozen=True)
class Song:
    """A song whose audio and title can change."""

    title: str
    entry: ShardEntry


def write_config(folder: Path, **sections: Any) -> Path:
    """A configuration file of a workspace below `folder`, over a catalog and a log that nobody reads."""
    for name in ("catalog", "log"):
        (folder / f"{name}.jsonl").write_text("{}\n")
    values = {
        "workspace": str(folder / "workspace"),
        "catalog": {"path": "catalog.jsonl", "audio_root": "audio"},
        "interactions": {"path": "log.jsonl"},
        **sections,
    }
    (folder / "audio").mkdir()
    (folder / "audio" / "a.wav").touch()
    path = folder / "htcl.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def write_shards(
    workspace: str, frames: Mapping[str, int], max_bytes: int, n_mels: int = N_MELS, seed: int = 0
) -> dict[str, Song]:
    """Songs of given lengths, as noise in new shards of the workspace."""
    rng = np.random.default_rng(seed)
    writer, entries = ShardWriter(storage.join(workspace, "shards"), max_bytes), []
    for track, length in frames.items():
        mel = (10 * rng.standard_normal((length, n_mels), np.float32) - 40).astype(np.float16)
        entries += writer.add(track, mel)
    entries += writer.close()
    return {e.track_id: Song(f"w{number % 1000} w{number // 7}", e) for number, e in enumerate(entries)}


def publish_songs(config: PipelineConfig, songs: Mapping[str, Song], steps: Mapping[str, Step]) -> None:
    """The artifacts of catalog and shards."""
    store = ArtifactStore(config.workspace)
    described = [
        {
            "track_id": track,
            "title": song.title,
            "tags": [],
            "audio_path": track,
            "split_group": track,
            "split": "train",
        }
        for track, song in songs.items()
    ]
    with store.create(steps["catalog"].recipe) as draft:
        pq.write_table(pa.Table.from_pylist(described, CHECKED_CATALOG), draft.path / CATALOG_FILE)
    rest = {"source_tag": "", "split": "train"}
    rows = [asdict(song.entry) | {"split_group": track, **rest} for track, song in songs.items()]
    with store.create(steps["shards"].recipe) as draft:
        write_index(pa.Table.from_pylist(rows, SHARDS), draft.path)


def publish_models(
    config: PipelineConfig, model_of: Callable[[int], HTCLModel] | None = None, n_mels: int = N_MELS
) -> dict[str, str]:
    """Models of both stages with random weights, tiny by default; their keys by stage."""
    store, steps = ArtifactStore(config.workspace), plan(config)
    for number, stage in enumerate(("stage1", "stage2"), 1):
        model = (model_of or tiny_model)(number)
        tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
        processor = HTCLProcessor(tokenizer, model.config.audio_config, max_tokens=16, text_fields=["title"])
        with store.create(steps[stage].recipe) as draft:
            model.save_pretrained(draft.path)
            processor.save_pretrained(draft.path)
    return {stage: steps[stage].key for stage in ("stage1", "stage2")}


def tiny_model(stage: int) -> HTCLModel:
    """Random weights, others for each stage, and another width."""
    torch.manual_seed(stage)
    dim = 4 * stage
    sizes = {"projection_sizes": [16, dim], "fusion_sizes": [8, dim]}
    return HTCLModel(HTCLConfig(audio_config=TINY_AUDIO, text_config=TINY_TEXT, stage=stage, **sizes))


def make_workspace(
    folder: Path, frames: Mapping[str, int], max_bytes: int = 60_000, **sections: Any
) -> tuple[Path, dict[str, Song]]:
    """A whole workspace of tiny models: its configuration file and its songs."""
    path = write_config(folder, **sections)
    config = load_config(path)
    songs = write_shards(config.workspace, frames, max_bytes)
    publish_songs(config, songs, plan(config))
    publish_models(config)
    return path, songs
