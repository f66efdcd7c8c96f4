"""Turn the interaction log into daily counts and a window snapshot of pairs.

Without a range the days of files that are new or changed are counted, and a snapshot is published. With --start and
--end the days of that range are counted again, with those that look back to them, in one commit; no snapshot is taken.
--exact leaves out those that look back: another job of the same backfill counts them.

    spark-submit jobs/mine_pairs.py --config CONFIG [--start DAY --end DAY [--exact] | --as-of VERSION]
"""

from __future__ import annotations

import argparse
import datetime as dt
import time
from dataclasses import replace

from daily_counts import Days, bring_up_to_date
from pyspark.sql import SparkSession
from session import job_parser, run_job, spark_session
from snapshot import take_snapshot

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.logs import get_logger, log, log_warning
from htcl.pairs.quality import day_number
from htcl.pairs.store import pair_table
from htcl.plan import Step, plan

LOGGER = get_logger("pairs")


def main(config: PipelineConfig, arguments: argparse.Namespace) -> None:
    """Count what has to be counted, then publish a snapshot (no range) or stop there (a range of days)."""
    step = plan(config, inputs=arguments.inputs)["pairs"]
    days = day_range(arguments.start, arguments.end)
    as_of: int | None = arguments.as_of
    if days is not None and as_of is not None:
        raise HTCLError("--as-of rebuilds a snapshot and counts nothing; leave out --start and --end")
    if as_of is not None:
        step = step_of_version(config, step, as_of)
    if step.published and days is None:
        log(LOGGER, "already published", key=step.key)
        return
    started = time.monotonic()
    with spark_session(config, "mine_pairs") as spark:
        log(LOGGER, "session started", seconds=time.monotonic() - started)
        version = as_of if as_of is not None else bring_up_to_date(spark, config, days, arguments.exact)
        if days is None:
            publish_snapshot(spark, config, step, version)


def day_range(start: str | None, end: str | None) -> Days | None:
    """Every day from start to end, both included, as days since 1970; None where no range was given."""
    if not start and not end:
        return None
    try:
        first, last = dt.date.fromisoformat(start or end or ""), dt.date.fromisoformat(end or start or "")
    except ValueError as error:
        raise HTCLError(f"--start and --end are days such as 2025-03-31: {error}") from None
    if last < first:
        raise HTCLError(f"--start {first} lies after --end {last}")
    return frozenset(range(day_number(str(first)), day_number(str(last)) + 1))


def step_of_version(config: PipelineConfig, step: Step, version: int) -> Step:
    """The step that takes a snapshot of an earlier version of the counts: an artifact of its own."""
    pair_table(config.workspace).check_there(version)
    recipe = replace(step.recipe, inputs={**step.recipe.inputs, "log_input": f"pair_counts version {version}"})
    published = ArtifactStore(config.workspace).published("pairs", recipe.key)
    return Step("pairs", recipe, published, "as of an earlier version")


def publish_snapshot(spark: SparkSession, config: PipelineConfig, step: Step, version: int) -> None:
    """Publish the pairs of a version of the counts, and warn where the newest day is unusual."""
    started = time.monotonic()
    with ArtifactStore(config.workspace).create(step.recipe) as draft:
        take_snapshot(spark, config, step.recipe.inputs, version, draft)
        draft.tables = {"pair_counts": version}
        figures = draft.figures
    for sentence in figures["unusual"]:
        log_warning(LOGGER, sentence)
    log(LOGGER, "pairs published", key=step.key, seconds=time.monotonic() - started, pairs=figures["pairs"])


if __name__ == "__main__":
    parser = job_parser(__doc__ or "")
    parser.add_argument("--start", help="first day to count again, YYYY-MM-DD")
    parser.add_argument("--end", help="last day to count again, YYYY-MM-DD")
    parser.add_argument("--exact", action="store_true", help="no day beyond the range, though some look back to it")
    parser.add_argument("--as-of", type=int, metavar="VERSION", help="snapshot of an earlier version of the counts")
    run_job(parser, main)
