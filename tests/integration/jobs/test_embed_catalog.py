"""The embedding job: what a first run and nightly runs leave in the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.embeddings.embedder import SongEmbedder
from htcl.embeddings.work import embeddings_table
from htcl.plan import plan
from htcl.shards.index import read_index
from htcl.shards.reader import ShardReader
from tests.embedding_workspace import Song, make_workspace, publish_songs, write_shards
from tests.integration.cluster import run_job, submit

FRAMES = {f"t{number:02d}": 40 + 3 * (number % 11) for number in range(40)}
STAGES = ("stage1", "stage2")


@dataclass
class History:
    """Runs one after the other: the first embeds all, the others have the champion embed a changed catalog."""

    path: Path
    config: PipelineConfig
    models: dict[str, str]
    manifests: list[dict[str, Any]] = field(default_factory=list)

    def run(self, songs: Mapping[str, Song] | None = None) -> None:
        """Embed the songs of the workspace, or by the champion other ones."""
        champion, options = None, []
        if songs is not None:
            champion, options = self.models["stage2"], ["--champion", self.models["stage2"], "--no-fine-tune"]
            catalog = self.path.parent / "catalog.jsonl"
            catalog.write_text(json.dumps([len(self.manifests), *songs]))  # another input, so other keys
            publish_songs(self.config, songs, plan(self.config, champion, fine_tune=False))
        done = run_job(submit("embed_catalog.py", self.path, *options))
        assert done.returncode == 0, done.output
        step = plan(self.config, champion, fine_tune=champion is None)["embeddings"]
        self.manifests.append(ArtifactStore(self.config.workspace).manifest("embeddings", step.key))

    def version(self, number: int) -> int:
        return int(self.manifests[number]["tables"]["embeddings"])

    def rows(self, number: int, stage: str) -> pa.Table:
        """What a run left of one model."""
        table = embeddings_table(self.config.workspace).read(self.version(number))
        return table.filter(pc.field("model_id") == self.models[stage]).sort_by("track_id")

    def files(self, number: int, stage: str) -> set[str]:
        parts = embeddings_table(self.config.workspace).parts(self.version(number))
        return {part.path for part in parts if part.partition == self.models[stage]}

    def figures(self, number: int) -> list[tuple[int, int, int]]:
        """(embedded, kept, left) by each model."""
        found = self.manifests[number]["figures"]
        return [(found[stage]["embedded"], found[stage]["kept"], found[stage]["left"]) for stage in STAGES]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    path, songs = make_workspace(tmp_path_factory.mktemp("embeddings"), FRAMES, embedding={"batch_size": 4})
    config = load_config(path)
    made = History(path, config, {stage: plan(config)[stage].key for stage in STAGES})
    made.run()
    songs |= write_shards(config.workspace, {"zz": 50}, 60_000, seed=1)
    made.run(songs | {"t05": replace(songs["t05"], title="w1 w2 w3")})
    del songs["t07"]
    made.run(songs | {"t05": replace(songs["t05"], title="w1 w2 w3")})
    made.run(songs | {"t05": replace(songs["t05"], title="w1  w2 w3")})
    return made


def test_the_first_run_embeds_every_song_by_both_models_in_one_commit(history: History) -> None:
    assert history.version(0) == 0
    assert history.figures(0) == [(40, 0, 0), (40, 0, 0)]
    store, inputs = ArtifactStore(history.config.workspace), history.manifests[0]["inputs"]
    index = read_index(store.fetch("shards", inputs["shards"]))
    mels = ShardReader(f"{history.config.workspace}/shards", index).read(np.arange(len(index)))
    for stage, dim in zip(STAGES, (4, 8), strict=True):
        rows = history.rows(0, stage)
        assert rows["track_id"].to_pylist() == sorted(FRAMES)
        assert rows["content_hash"].to_pylist() == index["content_hash"].to_pylist()
        embedder = SongEmbedder.load(str(store.fetch(stage, inputs[stage])), inputs[stage], "cpu")
        direct = np.concatenate([embedder.embed_songs([mel])[0] for mel in mels])
        assert direct.shape == (40, dim)
        np.testing.assert_allclose(rows["embedding"].to_pylist(), direct, atol=1e-5)
        assert rows["fusion_embedding"].null_count == (40 if stage == "stage1" else 0)


def test_a_new_song_and_a_new_title_are_computed_and_the_rest_is_kept(history: History) -> None:
    assert history.version(1) == 1
    assert history.figures(1) == [(1, 40, 0), (2, 39, 1)]
    assert history.files(0, "stage1") < history.files(1, "stage1")  # nothing left, so nothing was written again
    before, after = (_by_track(history.rows(number, "stage2")) for number in (0, 1))
    assert after.keys() - before.keys() == {"zz"}
    assert [track for track in before if before[track] != after[track]] == ["t05"]
    old, new = before["t05"], after["t05"]
    assert old["embedding"] == pytest.approx(new["embedding"], abs=1e-6)  # the audio is the same
    assert old["fusion_embedding"] != pytest.approx(new["fusion_embedding"], abs=1e-3)


def test_the_rows_of_a_song_that_is_gone_leave(history: History) -> None:
    assert history.version(2) == 2
    assert history.figures(2) == [(0, 40, 1), (0, 40, 1)]
    for stage in STAGES:
        before, after = (_by_track(history.rows(number, stage)) for number in (1, 2))
        del before["t07"]
        assert after == before


def test_where_nothing_changed_for_a_model_nothing_is_committed(history: History) -> None:
    assert history.manifests[3]["inputs"]["catalog"] != history.manifests[2]["inputs"]["catalog"]
    assert history.figures(3) == [(0, 40, 0), (0, 40, 0)]
    assert history.version(3) == history.version(2)


def _by_track(rows: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["track_id"]: row for row in rows.to_pylist()}
