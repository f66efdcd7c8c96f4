"""A tiny model, a few songs in real shards, configurations, and what is logged."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertTokenizer

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.config_file import validate_config
from htcl.ingest.catalog import CATALOG_FILE, CHECKED_CATALOG
from htcl.logs import LogfmtFormatter, parse_line
from htcl.models import HTCLConfig, HTCLModel, HTCLProcessor
from htcl.pairs import KNOWN_FOLDER, PAIRS_FOLDER
from htcl.plan import Step, plan
from htcl.schemas import SHARDS
from htcl.shards.index import INDEX_FILE, read_index, write_index
from htcl.shards.writer import ShardWriter
from htcl.training.batches import Songs

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
def logged():
    """The log lines, as who starts the rank reads them."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(parse_line(LogfmtFormatter().format(record)))
    logger = logging.getLogger("htcl")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def make_config(tmp_path):
    """A function that makes a configuration of a workspace, with settings of `training`."""

    def make(workspace=str(tmp_path / "workspace"), **training):
        return validate_config(
            {
                "workspace": workspace,
                "name": "Llibre de música",
                "catalog": {"path": str(tmp_path / "c")},
                "interactions": {"path": str(tmp_path / "l")},
                "training": training,
            },
            "test",
        )

    return make


def make_model(stage=1, **changes):
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


def make_processor():
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    return HTCLProcessor(tokenizer, make_model().config.audio_config, max_tokens=8)


@pytest.fixture
def tiny_model():
    return make_model


@pytest.fixture
def processor():
    return make_processor()


@dataclass
class World:
    """Shards of 14 songs a ... n in several tars, their index and their catalog."""

    shards: str
    index: pa.Table
    catalog: Path
    mels: list


def make_world(folder, tracks="abcdefghijklmn", frames=20):
    rng = np.random.default_rng(0)
    lengths = [frames + number % 14 for number in range(len(tracks))]
    mels = [(20 * rng.normal(size=(length, N_MELS)) - 40).astype(np.float16) for length in lengths]
    writer = ShardWriter(str(folder / "shards"), max_bytes=9_000)
    entries = [entry for track, mel in zip(tracks, mels, strict=True) for entry in writer.add(track, mel)]
    entries += writer.close()
    sides = {"m": "test", "n": "validation"}
    rows = [
        asdict(e) | {"source_tag": "", "split_group": e.track_id, "split": sides.get(e.track_id, "train")}
        for e in entries
    ]
    write_index(pa.Table.from_pylist(rows, SHARDS), folder)
    described = [
        {"track_id": t, "title": f"song {t}", "tags": ["slow"], "audio_path": t, "split": "train"}
        for t in reversed(tracks)
    ]
    pq.write_table(pa.Table.from_pylist(described, CHECKED_CATALOG), folder / CATALOG_FILE)
    return World(str(folder / "shards"), read_index(folder), folder, mels)


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


@pytest.fixture
def songs(world, processor):
    return Songs(world.shards, world.index, world.catalog, ["title", "tags"], processor)


def write_pairs(folder):
    """A ring over the twelve training songs, in which every second pair is trained on in both directions."""
    known = [(WORDS[-16:][i], WORDS[-16:][(i + 1) % 12]) for i in range(12)]
    trained = [pair for a, b in known[::2] for pair in ((a, b), (b, a))] + known[1::2]
    for name, pairs in ((PAIRS_FOLDER, trained), (KNOWN_FOLDER, [tuple(sorted(pair)) for pair in known])):
        (folder / name).mkdir()
        rows = [{"anchor_id": a, "positive_id": b, "source": "copreference", "split": "train"} for a, b in pairs]
        pq.write_table(pa.Table.from_pylist(rows), folder / name / "part-0.parquet")


Project = Callable[..., tuple[PipelineConfig, Step]]


def make_project(folder, **world) -> Project:
    """A function that makes a workspace, in which both stages of the tiny model can be trained.

    It returns the configuration and the step of stage 1. Two workspaces of the same settings have the same keys.
    """
    made = make_world(folder, **world)
    make_model().text_model.save_pretrained(folder / "bert")
    make_processor().tokenizer.save_pretrained(folder / "bert")
    (folder / "catalog.jsonl").write_text("{}\n")
    (folder / "log.jsonl").write_text("{}\n")

    rates = {"head_lr": 1e-2, "text_head_lr": 1e-2, "audio_encoder_lr": 1e-3}

    def make(name, training, stage1, stage2=None):
        config = validate_config(
            {
                "workspace": str(folder / name),
                "catalog": {"path": str(folder / "catalog.jsonl"), "audio_root": made.shards},
                "interactions": {"path": str(folder / "log.jsonl")},
                "audio": {"n_mels": N_MELS},
                "model": {
                    "text_encoder": str(folder / "bert"),
                    "text_fields": ["title", "tags"],
                    "projection_sizes": [16, 8],
                    "fusion_sizes": [8, 8],
                    **{key: value for key, value in AUDIO.items() if key != "n_mels"},
                },
                "training": {"processes": 2, "log_every_steps": 1, **training},
                "stage1": {"global_batch_size": 4, **rates, **stage1},
                "stage2": {"global_batch_size": 4, **rates, **(stage2 or {})},
            },
            "test",
        )
        shutil.copytree(made.shards, folder / name / "shards")
        for kind, file in (("catalog", CATALOG_FILE), ("shards", INDEX_FILE)):
            with ArtifactStore(config.workspace).create(plan(config)[kind].recipe) as draft:
                shutil.copy(folder / file, draft.path)
        with ArtifactStore(config.workspace).create(plan(config)["pairs"].recipe) as draft:
            write_pairs(draft.path)
        return config, plan(config)["stage1"]

    return make


@pytest.fixture
def project(tmp_path_factory) -> Project:
    return make_project(tmp_path_factory.mktemp("project"))
