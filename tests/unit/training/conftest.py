"""A tiny model and a few songs in real shards."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertTokenizer

from htcl.ingest.catalog import CATALOG_FILE, CHECKED_CATALOG
from htcl.models import HTCLConfig, HTCLModel, HTCLProcessor
from htcl.schemas import SHARDS
from htcl.shards.index import read_index, write_index
from htcl.shards.writer import ShardWriter

N_MELS = 16
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "song", "slow", "harp", *"abcdefghijklmnop"]
AUDIO = {
    "n_mels": N_MELS,
    "conv_filters": [8, 8, 8],
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TEXT = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "initializer_range": 0.5,  # fresh weights of the usual size make all texts alike
}


@pytest.fixture
def tiny_model():
    def build(stage=1, **changes):
        torch.manual_seed(0)
        return HTCLModel(
            HTCLConfig(
                audio_config=AUDIO,
                text_config=TEXT,
                projection_sizes=[16, 8],
                fusion_sizes=[8, 8],
                stage=stage,
                **changes,
            )
        )

    return build


@pytest.fixture
def processor(tiny_model):
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    return HTCLProcessor(tokenizer, tiny_model().config.audio_config, max_tokens=8)


@dataclass
class World:
    """Shards of 14 songs a ... n in several tars, their index and their catalog."""

    shards: str
    index: pa.Table
    catalog: Path
    mels: list


@pytest.fixture
def world(tmp_path):
    tracks = list("abcdefghijklmn")
    rng = np.random.default_rng(0)
    mels = [(20 * rng.normal(size=(20 + number, N_MELS)) - 40).astype(np.float16) for number in range(14)]
    writer = ShardWriter(str(tmp_path / "shards"), max_bytes=9_000)
    entries = [entry for track, mel in zip(tracks, mels, strict=True) for entry in writer.add(track, mel)]
    entries += writer.close()
    sides = {"m": "test", "n": "validation"}
    rows = [
        asdict(e) | {"source_tag": "", "split_group": e.track_id, "split": sides.get(e.track_id, "train")}
        for e in entries
    ]
    write_index(pa.Table.from_pylist(rows, SHARDS), tmp_path)
    described = [
        {"track_id": t, "title": f"song {t}", "tags": ["slow"], "audio_path": t, "split": "train"}
        for t in reversed(tracks)
    ]
    pq.write_table(pa.Table.from_pylist(described, CHECKED_CATALOG), tmp_path / CATALOG_FILE)
    return World(str(tmp_path / "shards"), read_index(tmp_path), tmp_path, mels)
