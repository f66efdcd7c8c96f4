"""One run of the report card: the models of one configuration and seed, and all competitors, asked everything."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from htcl.artifacts import ArtifactStore, Recipe
from htcl.config import PipelineConfig
from htcl.embeddings.embedder import SongEmbedder
from htcl.evaluation.cka import FEWEST_SONGS, debiased_linear_cka
from htcl.evaluation.collapse import directed
from htcl.evaluation.drift import measure_drift
from htcl.evaluation.results import PER_QUERY_FILE, RESULTS_FILE, from_table, to_table
from htcl.logs import get_logger, log
from htcl.report_card.models import embed_songs
from htcl.report_card.systems import Float32, System, competitors, embedding_system
from htcl.report_card.tasks import Answers, ask, joined
from htcl.report_card.variants import STAGE1, STAGE2
from htcl.report_card.world import World, read_world

KIND = "answers"
STEP_VERSION = 2
DECILES_FILE = "deciles.parquet"
RUN_FILE = "run.json"

LOGGER = get_logger("report_card")


@dataclass(frozen=True)
class RunAnswers:
    """What all systems of one run did.

    Attributes:
        data: fingerprint of the data; runs of other seeds share it.
        answers: of all systems.
        about: counts, the change from stage 1 to stage 2, seconds by system.
    """

    data: str
    answers: Answers
    about: dict[str, Any]


def recipe_of(config: PipelineConfig, inputs: dict[str, str], data: dict[str, str], models: dict[str, str]) -> Recipe:
    """What the answers of a run hang on.

    Args:
        config: reads `report_card`, `evaluation`, `gate` and what `text alone` is made of.
        inputs: from `htcl.plan.raw_inputs`.
        data: keys of catalog, shards and pairs.
        models: name of each variant -> key of its model.
    """
    asked = config.report_card.model_dump(mode="json")
    section = {
        "report_card": asked | {"musicnn_python": bool(config.report_card.musicnn_python)},  # whose, is no matter
        "evaluation": config.evaluation.model_dump(mode="json"),
        "songs": config.gate.songs,
        "model": config.model.model_dump(mode="json", include={"text_encoder", "text_pooling", "text_fields"}),
    }
    return Recipe(KIND, STEP_VERSION, section, {**inputs, **data, **models})


def make_answers(
    config: PipelineConfig, inputs: dict[str, str], recipe: Recipe, models: dict[str, tuple[str, str]]
) -> None:
    """Ask every system, and publish what they answered.

    Args:
        config: the configuration.
        inputs: from `htcl.plan.raw_inputs`.
        recipe: from `recipe_of`.
        models: name of each variant -> (stage, key of its model); stage1 and stage2 among them.
    """
    store = ArtifactStore(config.workspace)
    world = read_world(config, inputs)
    vectors: dict[str, Float32] = {}
    found: list[Answers] = []
    seconds: dict[str, float] = {}
    for name, (stage, key) in models.items():
        system = _model(store, world, name, stage, key, config.evaluation.seed)
        assert system.vectors is not None
        vectors[name] = system.vectors
        found.append(_timed(config, world, system, seconds))
    mapped = {name: vectors[name] for name in (STAGE1, STAGE2)}
    found += [_timed(config, world, system, seconds) for system in competitors(config, world, mapped)]
    about = {**_about(world, vectors), "seconds": seconds}
    with store.create(recipe) as draft:
        _write(draft.path, RunAnswers(world.data, joined(found), about))
        draft.figures = {"systems": len(found), "songs": len(world.tracks), "test_songs": len(world.test)}


def _model(store: ArtifactStore, world: World, name: str, stage: str, key: str, seed: int) -> System:
    embedder = SongEmbedder.load(str(store.fetch(stage, key)), key)
    vectors = embed_songs(embedder, world.reader, world.index, world.rows, seed)
    return embedding_system(name, "content", vectors, partial(_directed_texts, embedder, seed))


def _directed_texts(embedder: SongEmbedder, seed: int, texts: list[str]) -> Float32:
    return directed(embedder.embed_texts(texts), seed)[0]


def _timed(config: PipelineConfig, world: World, system: System, seconds: dict[str, float]) -> Answers:
    started = time.monotonic()
    answers = ask(config, world, system)
    seconds[system.name] = round(time.monotonic() - started, 1)
    log(LOGGER, "asked", system=system.name, seconds=seconds[system.name])
    return answers


def _about(world: World, vectors: dict[str, Float32]) -> dict[str, Any]:
    """Counts, and what became of the test songs' neighbours (of all, without any) from stage 1 to stage 2."""
    compared = world.test if len(world.test) >= FEWEST_SONGS else np.arange(len(world.tracks))
    before, after = (vectors[name][compared] for name in (STAGE1, STAGE2))
    return {
        "songs": len(world.tracks),
        "sides": {side: int((world.sides == side).sum()) for side in ("train", "validation", "test")},
        "cold_artist_songs": int(world.cold_artist.sum()),
        "cutoff_day": world.cutoff,
        "labels": {labels.field: {"songs": len(labels.rows), "classes": labels.classes} for labels in world.labels},
        "stage1_to_stage2": {**asdict(measure_drift(before, after)), "cka": debiased_linear_cka(before, after)},
    }


def _write(folder: Path, run: RunAnswers) -> None:
    pq.write_table(run.answers.per_query, folder / PER_QUERY_FILE)
    pq.write_table(to_table(run.answers.of_sets), folder / RESULTS_FILE)
    pq.write_table(run.answers.deciles, folder / DECILES_FILE)
    (folder / RUN_FILE).write_text(json.dumps({"data": run.data, **run.about}, indent=1))


def read_answers(folder: Path) -> RunAnswers:
    """What `make_answers` published."""
    about = json.loads((folder / RUN_FILE).read_text())
    answers = Answers(
        pq.read_table(folder / PER_QUERY_FILE),
        from_table(pq.read_table(folder / RESULTS_FILE)),
        pq.read_table(folder / DECILES_FILE),
    )
    return RunAnswers(about.pop("data"), answers, about)
