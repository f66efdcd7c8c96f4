"""Count a range of days again in parallel jobs, or bring the shards up to the catalog; or only say what it would do."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Any, Literal

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.futures import PrefectFuture, as_completed
from prefect.logging import get_run_logger
from prefect.states import Completed, State

from flows.artifacts import shown
from flows.graph import make, wait_for
from flows.run import Run, working
from flows.settings import Settings
from flows.steps import failed, failed_or_raise, retried, submit_job, worth_another_try
from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.pairs.backfill import Chunk, backfill_chunks, days_to_count
from htcl.plan import plan
from htcl.shards.state import read_index_table, work_of

COUNTED = "pair-counts"
"""Key of the artifact that lists days."""


@flow(name="htcl")
def backfill(
    config: str,
    start: dt.date | None = None,
    end: dt.date | None = None,
    what: Literal["pairs", "shards"] = "pairs",
    dry_run: bool = False,
    settings: Settings = Settings(),  # noqa: B008  (it never changes)
) -> State:
    """Redo a part of the data; the next full or nightly run takes a snapshot of it.

    Args:
        config: Path of the pipeline configuration (YAML) on the worker.
        start: First day that is counted again; needed for pairs.
        end: Last day that is counted again; needed for pairs.
        what: pairs (the counts of these days) or shards (new and changed audio of the whole catalog).
        dry_run: Only list what would be rewritten.
        settings: Settings laid over the configuration for this run.
    """
    try:
        with working(config, settings, "backfill") as run:
            if what == "shards":
                return Completed(message=_shards(run, dry_run))
            if start is None or end is None:
                raise HTCLError("a backfill of pairs needs start and end, such as 2025-03-01 and 2025-03-07")
            return Completed(message=_pairs(run, start, end, dry_run))
    except HTCLError as error:
        return failed(error)


def _pairs(run: Run, start: dt.date, end: dt.date, dry_run: bool) -> str:
    """Count days; what came of it, in a sentence."""
    chunks = backfill_chunks(start, end, run.config.pairs.lookback_days, run.config.steps.backfill_days)
    days, unknown = _list_days(run.config, chunks)
    about = f"{len(days)} days in {len(chunks)} jobs, {sum(day['rows'] for day in days)} rows of counts"
    more = f"; {unknown} files of the log were never counted and may have events of them" if unknown else ""
    get_run_logger().info(f"backfill of pairs from {start} to {end}: {about}{more}")
    if dry_run:
        return f"dry run: would rewrite {about}{more}"
    lost = _count(run, chunks)
    if lost:
        raise HTCLError(f"{len(lost)} of {len(chunks)} jobs failed, the others stand; " + "; ".join(lost))
    return f"rewrote {about}"


def _list_days(config: PipelineConfig, chunks: list[Chunk]) -> tuple[list[dict[str, Any]], int]:
    found, unknown = days_to_count(config, chunks)
    days = [asdict(day) for day in found]
    _show_days(days)
    return days, unknown


@shown
def _show_days(days: list[dict[str, Any]]) -> None:
    create_table_artifact(days, key=COUNTED, description="Days that the backfill rewrites, as they were before it")


def _count(run: Run, chunks: list[Chunk]) -> list[str]:
    """Run the jobs, a bounded number at once; sentences of those that failed."""
    running: dict[PrefectFuture[None], Chunk] = {}
    lost = []
    work = retried(run.config, count_days)
    for chunk in [*chunks, None]:
        while running and (chunk is None or len(running) >= run.config.steps.backfill_jobs):
            done = next(as_completed(list(running)))
            over = running.pop(done)
            try:
                wait_for([done])
            except HTCLError as error:
                lost.append(f"{over.start} to {over.end}: {error}")
        if chunk is not None:
            running[work.submit(run, chunk)] = chunk
    return lost


@task(task_run_name="count {chunk.start} to {chunk.end}", retry_condition_fn=worth_another_try)
def count_days(run: Run, chunk: Chunk) -> State | None:
    """Count the log of some days again, in one transaction."""
    try:
        submit_job(run, "mine_pairs.py", ["--start", str(chunk.start), "--end", str(chunk.end), "--exact"])
    except Exception as error:
        return failed_or_raise(error)
    return None


def _shards(run: Run, dry_run: bool) -> str:
    make(run, ["catalog"])
    step = plan(run.config, inputs=run.inputs)["shards"]
    work = work_of(run.config, step, read_index_table(run.config, step))
    about = f"{len(work.todo)} songs to look at, {len(work.kept)} as they were, {len(work.refused)} refused as before"
    if dry_run:
        return f"dry run: {about}"
    make(run, ["shards"])
    return about
