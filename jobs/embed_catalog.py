"""Embed every song of the shards with the models of both stages, by reading the shards from front to back.

Only songs that a model has not embedded yet are computed, all of them where the step has another version since, and
rows that stand for no song any more leave. A reader of the embeddings table sees all that a run changes, for both
models, or nothing.

    spark-submit jobs/embed_catalog.py --config CONFIG [--champion KEY [--no-fine-tune]]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

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
from htcl.plan import plan

LOGGER = get_logger("embeddings")
TASKS_PER_CORE = 4
"""At least: progress shows, and no core waits long for the last one."""


def main(config: PipelineConfig, arguments: argparse.Namespace) -> None:
    """Embed what is missing for both models and publish the embeddings artifact."""
    step = plan(config, arguments.champion, not arguments.no_fine_tune, arguments.inputs)["embeddings"]
    if step.published:
        log(LOGGER, "already published", key=step.key)
        return
    store, inputs = ArtifactStore(config.workspace), step.recipe.inputs
    models = [Model(stage, inputs[stage]) for stage in ("stage1", "stage2")]
    table = embeddings_table(config.workspace)
    with spark_session(config, "embed_catalog") as spark, store.create(step.recipe) as draft:
        songs, base = read_songs(store, inputs), table.version()
        parts: list[Part] = []
        replaced = []
        for model in models:
            started = time.monotonic()
            work = find_work(table, base, model, songs, step.recipe.step_version)
            parts += _embed(spark, config, model, work)
            if len(work.gone):
                parts += _rewrite(spark, config, model, work, table.parts(base))
                replaced.append(model.key)
            draft.figures[model.stage] = _figures(model, work, len(songs), time.monotonic() - started)
        if parts or replaced:
            noted, keys = note_versions(table, models, step.recipe.step_version), [model.key for model in models]
            base = table.commit(parts, replace=replaced, append=keys, base=base, properties=noted)
        draft.tables = {table.name: base}


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


def _figures(model: Model, work: Work, songs: int, seconds: float) -> dict[str, Any]:
    figures = {"songs": songs, "embedded": len(work.missing), "kept": work.kept, "left": len(work.gone)}
    log(LOGGER, "embedded", stage=model.stage, model=model.key, seconds=seconds, **figures)
    return {**figures, "seconds": round(seconds, 1)}


if __name__ == "__main__":
    parser = job_parser(__doc__ or "")
    parser.add_argument("--champion", help="stage-2 key to build on instead of a model trained from the start")
    parser.add_argument("--no-fine-tune", action="store_true", help="embed with the champion itself")
    run_job(parser, main)
