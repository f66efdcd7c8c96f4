"""The report card of a finished run: every system is asked everything, once."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from htcl.artifacts import ArtifactStore
from htcl.config_file import load_config
from htcl.evaluation.results import PER_QUERY_FILE
from htcl.plan import raw_inputs
from htcl.report_card.card import read_card
from htcl.report_card.models import model_key, train_variant, training_steps
from htcl.report_card.systems import embedding_system, of_the_log
from htcl.report_card.tasks import ask
from htcl.report_card.variants import VARIANTS
from htcl.report_card.world import read_world

from .harness import Htcl, Run

FAST = (
    "report_card.labels={genre: {column: genre, min_songs: 2}, tags: {column: tags, kind: multiple, min_songs: 5}}",
    "report_card.probes.epochs=3",
    "report_card.probes.learning_rates=[0.01]",
    "report_card.probes.folds=3",
    "report_card.item2vec.epochs=2",
    "report_card.als.factors=4",
)
SETTINGS = [word for setting in FAST for word in ("--set", setting)]
COMPETITORS = (
    "random",
    "popularity",
    "MFCC",
    "text alone",
    "ALS",
    "BM25",
    "item2vec",
    "stage1 mapped to ALS",
    "stage2 mapped to ALS",
    "MFCC mapped to ALS",
)


def test_every_system_is_asked_and_the_report_has_the_card(own_run: Run, htcl: Htcl) -> None:
    done = htcl("evaluate", own_run.path, *SETTINGS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    store = ArtifactStore(own_run.config.workspace)
    (manifest,) = store.manifests("report_card")
    folder = store.fetch("report_card", manifest["key"])
    card = read_card(folder)
    assert set(card.systems) == {*COMPETITORS, "stage1", "stage2"}
    assert f"report: {store.fetch('report', store.manifests('report')[-1]['key'])}" in done.stdout
    _check_answers(store, manifest["inputs"]["run 1"])
    record = json.loads((folder / "records" / "stage2" / "text_to_audio.json").read_text())
    assert record["scores"]["test"][0]["recall_at_10_n"] > 10
    again = htcl("evaluate", own_run.path, *SETTINGS)
    assert again.stdout == done.stdout and "asked" not in again.stderr


def _check_answers(store: ArtifactStore, key: str) -> None:
    """Each system answered what it can, and nothing names a listener of the log."""
    table = pq.read_table(store.fetch("answers", key) / PER_QUERY_FILE)
    asked = {
        system: {(row["task"], row["split"]) for row in table.filter(pc.field("system") == system).to_pylist()}
        for system in (*COMPETITORS, "stage1", "stage2")
    }
    for system in ("ALS", "BM25", "item2vec"):
        assert {split for _, split in asked[system]} <= {"warm"}, system
        assert ("user_to_song", "warm") in asked[system]
    for system in ("random", "popularity", "MFCC", "text alone", "stage1 mapped to ALS", "stage2"):
        assert {("song_to_song", "cold"), ("user_to_song", "cold"), ("user_to_song_recent", "warm")} <= asked[system]
    for system in ("random", "stage1", "stage2"):
        assert {("zero_shot_genre", "test"), ("text_to_audio", "test"), ("probe_mlp_genre", "test")} <= asked[system]
    assert ("probe_linear_genre", "test") in asked["MFCC"]
    assert not any(task.startswith(("probe", "zero")) for task, _ in asked["text alone"])
    listeners = table.filter(pc.starts_with(table["task"], "user_to_song"))["query"].to_pylist()
    assert all(name.isdecimal() and len(name) < 4 for name in listeners)


def test_without_held_out_songs_known_ones_are_asked_for(own_run: Run) -> None:
    config = load_config(own_run.path, list(FAST))
    world = read_world(config, raw_inputs(config))
    sides = np.where(world.sides == "test", "train", world.sides)
    listeners = {split: queries for split, queries in world.listeners.items() if split == "warm"}
    world = replace(world, sides=sides, pairs={}, listeners=listeners, labels=[])
    vectors = np.random.default_rng(0).normal(size=(len(world.tracks), 8)).astype(np.float32)
    known = of_the_log("item2vec", vectors)
    heard = embedding_system("stage2", "content", vectors, lambda texts: vectors[: len(texts)])
    for system in (known, heard):
        answers = ask(config, world, system)
        assert set(answers.per_query["split"].to_pylist()) == {"warm"}


def test_a_variant_without_text_is_trained_from_an_untrained_model(own_run: Run) -> None:
    config = load_config(own_run.path, ["training.processes=1"])
    inputs = raw_inputs(config)
    (variant,) = [each for each in VARIANTS if each.name == "stage2 without text"]
    steps = training_steps(config, inputs)
    train_variant(config, variant, steps, inputs)
    store = ArtifactStore(config.workspace)
    key = model_key(config, variant, steps, inputs)
    stage1 = store.manifest("stage1", store.manifest("stage2", key)["inputs"]["stage1"])
    assert stage1["section"]["stage1"]["epochs"] == 0
    assert "| steps | 0, of" in (store.fetch("stage1", stage1["key"]) / "README.md").read_text()


def test_a_configuration_that_was_not_run_is_told_so(
    own_run: Run, htcl: Htcl, tmp_path_factory: pytest.TempPathFactory
) -> None:
    done = htcl("evaluate", own_run.path, "--set", f"workspace={tmp_path_factory.mktemp('empty')}")
    assert done.returncode == 1
    assert "is not published" in done.stderr and "run the pipeline first" in done.stderr
