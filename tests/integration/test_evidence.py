"""The claims of the project, trained for real on worlds that no setting was chosen on.

`make evidence` runs it from the first second of audio to the last figure and prints what it measures.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from htcl.artifacts import ArtifactStore
from htcl.champion import require_champion
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.demo.factors import GENRES, HEARD, INSTRUMENTS, MOODS
from htcl.demo.project import prepare_demo
from htcl.evaluation.bootstrap import paired_difference
from htcl.evaluation.results import PER_QUERY_FILE, Split, Task
from htcl.report_card.card import KEPT_SHARE
from htcl.search.index import read_embeddings
from htcl.search.query import PublishedSongs
from htcl.shards.index import read_index

from .harness import ROOT, Floats, Htcl, pooled_queries

SONGS, SEEDS = 900, (31, 32)
FOLDER = ROOT / "workspace" / "evidence"
NEIGHBOURS = 10

pytestmark = pytest.mark.evidence


@dataclass(frozen=True)
class World:
    """A finished run over a generated world, and what is true of its songs."""

    config: PipelineConfig
    truth: dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def worlds(htcl: Htcl) -> list[World]:
    """Worlds and runs over them, all made anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    return [_run(htcl, FOLDER / str(seed), seed) for seed in SEEDS]


def _run(htcl: Htcl, folder: Path, seed: int) -> World:
    path, _ = prepare_demo(folder, songs=SONGS, seed=seed)
    done = htcl("run", path)
    assert done.returncode == 0, done.stdout[-4000:]
    print(f"\nworld of seed {seed}\n\n{htcl('results', path).stdout}")
    rows = pq.read_table(next(folder.glob("world-*/truth/songs.parquet"))).to_pylist()
    return World(load_config(path), {str(row["track_id"]): row for row in rows})


def test_stage2_beats_stage1_on_cold_songs_and_keeps_its_retrieval(worlds: list[World]) -> None:
    after, before = _pooled(worlds, "song_to_song", "cold", "ndcg_at_10")
    gain = paired_difference(after, before)
    print(
        f"cold song-to-song ndcg_at_10: stage 1 {before.mean():.3f}, stage 2 {after.mean():.3f}, "
        f"paired difference {gain.value:.3f} [{gain.low:.3f}, {gain.high:.3f}] over {gain.n} songs"
    )
    found, at_first = _pooled(worlds, "text_to_audio", "test", "recall_at_10")
    kept = paired_difference(found, KEPT_SHARE * at_first)
    print(
        f"text-to-audio recall_at_10: stage 1 {at_first.mean():.3f}, stage 2 {found.mean():.3f}, "
        f"stage 2 - {KEPT_SHARE} x stage 1 {kept.value:.3f} [{kept.low:.3f}, {kept.high:.3f}]"
    )
    assert gain.n >= 200
    assert gain.low > 0
    assert kept.high >= 0
    assert found.mean() >= 0.97 * at_first.mean()


def test_stage2_recovers_taste_that_is_heard_and_not_told(worlds: list[World]) -> None:
    """Neighbours of a held-out song share what listeners hear in it and no text says."""
    alike: dict[str, list[Floats]] = {"stage1": [], "stage2": []}
    for world in worlds:
        store, champion = ArtifactStore(world.config.workspace), require_champion(world.config.workspace)
        manifest = store.manifest("embeddings", champion.embeddings)
        for stage, found in alike.items():
            model_id, version = manifest["inputs"][stage], manifest["tables"]["embeddings"]
            tracks, vectors, _ = read_embeddings(world.config.workspace, model_id, version)
            found.append(_heard_similarity(tracks, vectors, world.truth, _test_songs(store, champion.shards)))
    after, before = np.concatenate(alike["stage2"]), np.concatenate(alike["stage1"])
    gain = paired_difference(after, before)
    print(
        f"heard similarity of the {NEIGHBOURS} nearest songs (cosine of {', '.join(HEARD)}): "
        f"stage 1 {before.mean():.3f}, stage 2 {after.mean():.3f}, "
        f"paired difference {gain.value:.3f} [{gain.low:.3f}, {gain.high:.3f}] over {gain.n} songs"
    )
    assert gain.low > 0


def test_words_find_songs_that_sound_like_them(worlds: list[World]) -> None:
    """Single words, searched in what the audio encoder made of the sound."""
    lifts = {}
    for field, words in (("genre", GENRES), ("instrument", INSTRUMENTS), ("mood", MOODS)):
        shares, bases = [], []
        for world in worlds:
            songs = PublishedSongs(world.config.workspace)
            for word in words:
                shares += [world.truth[song.track_id][field] == word for song in songs.search(word, NEIGHBOURS)]
                bases.append(np.mean([song[field] == word for song in world.truth.values()]))
        lifts[field] = float(np.mean(shares) / np.mean(bases))
        print(f"search by {field}: {np.mean(shares):.0%} of the top {NEIGHBOURS} right, {np.mean(bases):.0%} by chance")
    assert lifts["genre"] > 4
    assert lifts["instrument"] > 1.5
    assert lifts["mood"] > 1.5


def _pooled(worlds: list[World], task: Task, split: Split, metric: str) -> tuple[Floats, Floats]:
    """One metric of stage 2 and of stage 1 for the same queries of all worlds [queries]."""
    tables = []
    for world in worlds:
        evaluation = require_champion(world.config.workspace).evaluation
        table = pq.read_table(ArtifactStore(world.config.workspace).fetch("evaluation", evaluation) / PER_QUERY_FILE)
        stage2, stage1 = (table.filter(pc.field("system") == system) for system in ("stage2", "stage1"))
        tables.append((stage2, stage1))
    return pooled_queries(tables, task, split, metric)


def _test_songs(store: ArtifactStore, shards: str) -> set[str]:
    index = read_index(store.fetch("shards", shards))
    return set(index.filter(pc.field("split") == "test")["track_id"].to_pylist())


def _heard_similarity(
    tracks: list[str], vectors: npt.NDArray[np.float32], truth: dict[str, dict[str, object]], queries: set[str]
) -> Floats:
    """Mean cosine of the heard factors between each query song and its nearest neighbours [queries]."""
    heard = np.array([[truth[track][factor] for factor in HEARD] for track in tracks], np.float64)
    heard = (heard - heard.mean(axis=0)) / heard.std(axis=0)
    heard /= np.linalg.norm(heard, axis=1, keepdims=True)
    rows = np.array([row for row, track in enumerate(tracks) if track in queries])
    scores = vectors[rows] @ vectors.T
    scores[np.arange(len(rows)), rows] = -np.inf
    nearest = np.argsort(-scores, axis=1)[:, :NEIGHBOURS]
    return np.asarray((heard[rows][:, None] * heard[nearest]).sum(axis=2).mean(axis=1))
