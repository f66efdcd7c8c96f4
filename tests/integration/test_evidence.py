"""The claims of the project, trained for real on a world that no setting was chosen on.

`make evidence` runs it from the first second of audio to the last figure and prints what it measures.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from htcl.artifacts import ArtifactStore
from htcl.champion import require_champion
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.demo.factors import GENRES, HEARD, INSTRUMENTS, MOODS
from htcl.demo.project import prepare_demo
from htcl.evaluation.bootstrap import paired_difference
from htcl.evaluation.run import COMPARISONS_FILE
from htcl.search.index import read_embeddings
from htcl.search.query import PublishedSongs

from .harness import ROOT, Htcl

SONGS, SEED = 1200, 15
FOLDER = ROOT / "workspace" / "evidence"
NEIGHBOURS = 10

Floats = npt.NDArray[np.float64]

pytestmark = pytest.mark.evidence


@pytest.fixture(scope="module")
def config(htcl: Htcl) -> PipelineConfig:
    """A world and a run over it, both made anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    path, _ = prepare_demo(FOLDER, songs=SONGS, seed=SEED)
    done = htcl("run", path)
    assert done.returncode == 0, done.stdout[-4000:]
    print(htcl("results", path).stdout)
    return load_config(path)


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, object]]:
    rows = pq.read_table(next(FOLDER.glob("world-*/truth/songs.parquet"))).to_pylist()
    return {row["track_id"]: row for row in rows}


def test_stage2_beats_stage1_on_cold_songs_and_keeps_its_retrieval(config: PipelineConfig) -> None:
    evaluation = ArtifactStore(config.workspace).fetch("evaluation", require_champion(config.workspace).evaluation)
    rows = json.loads((evaluation / COMPARISONS_FILE).read_text())
    found = {(row["task"], row["split"], row["metric"]): row for row in rows}
    cold = found["song_to_song", "cold", "ndcg_at_10"]
    gain = cold["difference"]
    print(
        f"cold song-to-song ndcg_at_10: stage 1 {cold['stage1']:.3f}, stage 2 {cold['stage2']:.3f}, "
        f"paired difference {gain['value']:.3f} [{gain['low']:.3f}, {gain['high']:.3f}] over {gain['n']} songs"
    )
    kept = found["text_to_audio", "test", "recall_at_10"]
    print(
        f"text-to-audio recall_at_10: stage 1 {kept['stage1']:.3f}, stage 2 {kept['stage2']:.3f}, "
        f"kept {kept['stage2'] / kept['stage1']:.1%}"
    )
    assert gain["n"] >= 200
    assert gain["low"] > 0
    assert kept["stage2"] >= 0.97 * kept["stage1"]


def test_stage2_recovers_taste_that_is_heard_and_not_told(
    config: PipelineConfig, truth: dict[str, dict[str, object]]
) -> None:
    """Neighbours of a held-out song share what listeners hear in it and no text says."""
    store, champion = ArtifactStore(config.workspace), require_champion(config.workspace)
    manifest = store.manifest("embeddings", champion.embeddings)
    alike = {}
    for stage in ("stage1", "stage2"):
        model_id, version = manifest["inputs"][stage], manifest["tables"]["embeddings"]
        tracks, vectors, _ = read_embeddings(config.workspace, model_id, version)
        alike[stage] = _heard_similarity(tracks, vectors, truth, _test_songs(store, champion.catalog))
    before, after = alike["stage1"].mean(), alike["stage2"].mean()
    gain = paired_difference(alike["stage2"], alike["stage1"])
    print(
        f"heard similarity of the {NEIGHBOURS} nearest songs (cosine of {', '.join(HEARD)}): stage 1 {before:.3f}, "
        f"stage 2 {after:.3f}, paired difference {gain.value:.3f} [{gain.low:.3f}, {gain.high:.3f}] over {gain.n} songs"
    )
    assert gain.low > 0


def test_words_find_songs_that_sound_like_them(config: PipelineConfig, truth: dict[str, dict[str, object]]) -> None:
    """Single words, searched in what the audio encoder made of the sound."""
    songs = PublishedSongs(config.workspace)
    lifts = {}
    for field, words in (("genre", GENRES), ("instrument", INSTRUMENTS), ("mood", MOODS)):
        shares, bases = [], []
        for word in words:
            shares += [truth[song.track_id][field] == word for song in songs.search(word, NEIGHBOURS)]
            bases.append(np.mean([song[field] == word for song in truth.values()]))
        lifts[field] = float(np.mean(shares) / np.mean(bases))
        print(f"search by {field}: {np.mean(shares):.0%} of the top {NEIGHBOURS} right, {np.mean(bases):.0%} by chance")
    assert lifts["genre"] > 4
    assert lifts["instrument"] > 1.5
    assert lifts["mood"] > 1.5


def _test_songs(store: ArtifactStore, catalog: str) -> set[str]:
    rows = pq.read_table(store.fetch("catalog", catalog) / "catalog.parquet", columns=["track_id", "split"]).to_pylist()
    return {row["track_id"] for row in rows if row["split"] == "test"}


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
