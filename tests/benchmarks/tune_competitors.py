"""Tunes the competitors of the report card on worlds that are never reported, and prints the values for a preset.

`make tune` generates the worlds, mines their pairs and trains stage 1 where that was not done, tries every value of the
grids and prints the best ones with what they reach on songs that no training saw.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from htcl.artifacts import ArtifactStore
from htcl.card_config import AlsConfig, Bm25Config, Item2VecConfig
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.demo.project import prepare_demo
from htcl.embeddings.embedder import SongEmbedder
from htcl.evaluation.baselines.als import Als, mapped_to_factors
from htcl.evaluation.baselines.bm25 import Bm25
from htcl.evaluation.baselines.item2vec import item2vec
from htcl.evaluation.baselines.mfcc import standardised
from htcl.evaluation.listeners import evaluate_listeners
from htcl.evaluation.recommendation import evaluate_song_to_song
from htcl.plan import plan, raw_inputs
from htcl.report_card.models import embed_songs
from htcl.report_card.systems import System, embedding_system, of_the_log
from htcl.report_card.world import World, read_world
from tests.integration.harness import BIN, ROOT

GRIDS: dict[str, dict[str, list[Any]]] = {
    "als": {"factors": [16, 32, 64], "regularization": [1.0, 10.0, 50.0, 200.0], "alpha": [0.3, 1.0, 3.0, 10.0]},
    "ridge": {"ridge": [1.0, 10.0, 100.0, 1000.0]},
    "bm25": {"neighbours": [50, 100, 400], "k1": [1.2, 5.0, 20.0, 100.0], "b": [0.0, 0.1, 0.5]},
    "item2vec": {
        "size": [32, 64],
        "window": [10, 20],
        "epochs": [60],
        "sample": [1e-4, 1e-5],
        "ns_exponent": [-0.5, 0.75],
    },
}


@dataclass(frozen=True)
class Known:
    """A world with what the competitors start from."""

    config: PipelineConfig
    world: World
    stage1: np.ndarray[Any, np.dtype[np.float32]]
    mfcc: np.ndarray[Any, np.dtype[np.float32]]


def main() -> None:
    """Tune one after another; the map from content starts from the tuned factors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=900, help="songs of each world")
    parser.add_argument("--seeds", type=int, nargs="+", default=[12, 17, 18], help="worlds")
    parser.add_argument("--root", type=Path, default=ROOT / "workspace" / "dev")
    options = parser.parse_args()
    worlds = [_known(options.root / str(seed), options.songs, seed) for seed in options.seeds]
    print("report_card:")
    _best(worlds, "bm25", lambda known, values: _warm(known, _bm25(known, Bm25Config(**values))))
    _best(worlds, "item2vec", lambda known, values: _warm(known, _item2vec(known, Item2VecConfig(**values))))
    als = _best(worlds, "als", lambda known, values: _warm(known, _als(known, AlsConfig(**values))))
    for name in ("stage1", "mfcc"):
        _best(worlds, "ridge", lambda known, values, name=name: _cold(known, _mapped(known, als, values, name)), name)


def _known(folder: Path, songs: int, seed: int) -> Known:
    path, _ = prepare_demo(folder, songs, seed)
    done = subprocess.run([str(BIN / "htcl"), "run", str(path)], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    config = load_config(path)
    inputs = raw_inputs(config)
    key = plan(config, inputs=inputs)["stage1"].key
    world = read_world(config, inputs)
    embedder = SongEmbedder.load(str(ArtifactStore(config.workspace).fetch("stage1", key)), key)
    stage1 = embed_songs(embedder, world.reader, world.index, world.rows, 0)
    return Known(config, world, stage1, standardised(world.mfcc(), world.train))


def _best(worlds: list[Known], name: str, score: Any, of: str = "") -> dict[str, Any]:
    found = [(float(np.mean([score(known, values) for known in worlds])), values) for values in _grid(GRIDS[name])]
    reached, values = max(found, key=lambda each: each[0])
    print(f"  {name}: {values}  # {of} ndcg_at_10 {reached:.4f} of {len(found)} tried", flush=True)
    return values


def _grid(grid: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _warm(known: Known, system: System) -> float:
    """Mean of both tasks on known songs."""
    queries = known.world.listeners["warm"]
    scorer = system.listeners(queries.histories)
    listeners = evaluate_listeners(system.name, scorer, queries, known.world.responses).metrics["ndcg_at_10"]
    songs = evaluate_song_to_song(system.name, system.songs, known.world.pairs["warm"])["ndcg_at_10"]
    return float((listeners.mean() + songs.mean()) / 2)


def _cold(known: Known, system: System) -> float:
    """Song to song on songs that no training saw, of both held-out sides."""
    values = [
        evaluate_song_to_song(system.name, system.songs, known.world.pairs[split])["ndcg_at_10"]
        for split in ("cold", "validation")
    ]
    return float(np.concatenate(values).mean())


def _als(known: Known, config: AlsConfig) -> System:
    als = Als(known.world.plays, config)
    return System("ALS", "log", als.songs(), als.listeners)


def _bm25(known: Known, config: Bm25Config) -> System:
    bm25 = Bm25(known.world.plays, config)
    return System("BM25", "log", bm25.songs(), bm25.listeners)


def _item2vec(known: Known, config: Item2VecConfig) -> System:
    return of_the_log("item2vec", item2vec(known.world.past, len(known.world.tracks), config))


def _mapped(known: Known, als: dict[str, Any], values: dict[str, Any], content: str) -> System:
    factors = Als(known.world.plays, AlsConfig(**als))
    vectors = mapped_to_factors(getattr(known, content), factors, known.world.train, values["ridge"])
    return embedding_system(f"{content} mapped to ALS", "content and log", vectors)


if __name__ == "__main__":
    main()
