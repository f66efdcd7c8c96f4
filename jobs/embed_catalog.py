"""Embed the songs of the shards with the models of both stages, by reading the shards from front to back.

Only songs that a model has not embedded yet are computed, all of them where the step has another version since, and
rows that stand for no song any more leave. A reader of the embeddings table sees all that a run changes, for both
models, or nothing.

With --gate-set only those songs are embedded on which models are judged; the others follow in another run.

    spark-submit jobs/embed_catalog.py --config CONFIG [--gate-set] [--champion KEY [--no-fine-tune]]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import SparkContext, TaskContext
from pyspark.sql import SparkSession
from session import job_parser, run_job, spark_session, stage_progress

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.embeddings.work import (
    Model,
    Work,
    embeddings_table,
    find_work,
    note_versions,
    part_groups,
    read_songs,
    song_groups,
)
from htcl.logs import get_logger, log
from htcl.parts import Part
from htcl.plan import STEP_VERSIONS, plan
from htcl.shards.index import read_index
from htcl.tables import GrowingTable

LOGGER = get_logger("embeddings")
TASKS_PER_CORE = 4
"""At least: progress shows, and no core waits long for the last one."""


def main(config: PipelineConfig, arguments: argparse.Namespace) -> None:
    """Embed what is missing for both models and publish the artifact."""
    name = "gate_set" if arguments.gate_set else "embeddings"
    step = plan(config, arguments.champion, not arguments.no_fine_tune, arguments.inputs)[name]
    if step.published:
        log(LOGGER, "already published", key=step.key)
        return
    store, inputs = ArtifactStore(config.workspace), step.recipe.inputs
    models = [Model(stage, inputs[stage]) for stage in ("stage1", "stage2")]
    table = embeddings_table(config.workspace)
    with store.create(step.recipe) as draft:
        songs, base = read_songs(store, inputs), table.version()
        wanted = _gate_songs(config, store, inputs, draft.path) if arguments.gate_set else None
        works = {model: find_work(table, base, model, songs, STEP_VERSIONS["embeddings"], wanted) for model in models}
        seconds: dict[str, float] = {}
        if any(len(work.missing) or len(work.gone) for work in works.values()):
            with spark_session(config, "embed_catalog") as spark:
                base, seconds = _do(spark, config, table, base, works)
        for model, work in works.items():
            counts = {"embedded": len(work.missing), "kept": work.kept, "left": len(work.gone)}
            draft.figures[model.stage] = {**counts, "seconds": seconds.get(model.stage, 0.0)}
        draft.figures["songs"] = len(songs) if wanted is None else len(wanted)
        draft.tables = {table.name: base}
    embedded = {f"{model.stage}_embedded": len(work.missing) for model, work in works.items()}
    log(LOGGER, f"{name} published", songs=draft.figures["songs"], **embedded)


def _do(
    spark: SparkSession, config: PipelineConfig, table: GrowingTable, base: int, works: dict[Model, Work]
) -> tuple[int, dict[str, float]]:
    """Embed what is missing, write anew where rows leave, and commit.

    Returns:
        The new version of the table, and how long each stage took.
    """
    parts: list[Part] = []
    replaced, seconds = [], {}
    for model, work in works.items():
        started = time.monotonic()
        parts += _embed(spark, config, model, work)
        if len(work.gone):
            parts += _rewrite(spark, config, model, work, table.parts(base))
            replaced.append(model.key)
        seconds[model.stage] = round(time.monotonic() - started, 1)
        log(
            LOGGER,
            "embedded",
            stage=model.stage,
            model=model.key,
            songs=len(work.missing),
            seconds=seconds[model.stage],
        )
    noted = note_versions(table, list(works), STEP_VERSIONS["embeddings"])
    keys = [model.key for model in works]
    return table.commit(parts, replace=replaced, append=keys, base=base, properties=noted), seconds


def _gate_songs(config: PipelineConfig, store: ArtifactStore, inputs: dict[str, str], folder: Path) -> pa.Array:
    """Choose the songs of the gate set and write them down."""
    from htcl.evaluation.gate_set import gate_songs, write_gate_songs

    index = read_index(store.fetch("shards", inputs["shards"]))
    chosen = gate_songs(index, store.fetch("pairs", inputs["pairs"]), config.gate.songs)
    write_gate_songs(chosen, folder)
    return chosen


def _embed(spark: SparkSession, config: PipelineConfig, model: Model, work: Work) -> list[Part]:
    """Embed the songs that a model lacks."""
    workspace, batch_size = config.workspace, config.embedding.batch_size

    def run(groups: Iterator[bytes]) -> Iterator[Part]:
        from htcl.embeddings.embedder import torch_device
        from htcl.embeddings.tasks import embed_group

        task = TaskContext.get()
        gpu = task.resources().get("gpu")
        device = torch_device(gpu.addresses if gpu else [])
        for group in groups:
            yield embed_group(group, workspace, model, batch_size, device, threads=task.cpus())

    return _on_tasks(spark, f"embed {model.stage}", song_groups(work.missing, _tasks(spark)), run)


def _rewrite(spark: SparkSession, config: PipelineConfig, model: Model, work: Work, parts: list[Part]) -> list[Part]:
    """Write the rows that stay in a partition from which some leave."""
    workspace, gone = config.workspace, work.gone

    def run(groups: Iterator[list[Part]]) -> Iterator[Part]:
        from htcl.embeddings.tasks import rewrite_parts

        for group in groups:
            yield from rewrite_parts(group, workspace, model, gone)

    own = [part for part in parts if part.partition == model.key] if work.kept else []
    return _on_tasks(spark, f"keep {model.stage}", part_groups(own, _tasks(spark)), run)


def _on_tasks(
    spark: SparkSession, what: str, groups: list[Any], run: Callable[[Iterator[Any]], Iterator[Part]]
) -> list[Part]:
    """Run each group as a task of its own."""
    if not groups:
        return []
    with stage_progress(spark, LOGGER, what):
        return spark.sparkContext.parallelize(groups, len(groups)).mapPartitions(run).collect()


def _tasks(spark: SparkSession) -> int:
    context: SparkContext = spark.sparkContext
    return TASKS_PER_CORE * context.defaultParallelism


if __name__ == "__main__":
    parser = job_parser(__doc__ or "")
    parser.add_argument("--gate-set", action="store_true", help="only the songs on which models are judged")
    parser.add_argument("--champion", help="stage-2 key to build on instead of a model trained from the start")
    parser.add_argument("--no-fine-tune", action="store_true", help="embed with the champion itself")
    run_job(parser, main)
