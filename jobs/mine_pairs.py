"""Turn the interaction log into daily counts and a window snapshot of pairs.

Without a range the days of files that are new or changed are counted, and a snapshot is published. With --start and
--end the days of that range are counted again, with those that look back to them, in one commit; no snapshot is taken.

    spark-submit jobs/mine_pairs.py --config CONFIG [--start DAY --end DAY | --as-of VERSION]
"""

from __future__ import annotations

import argparse
import datetime as dt
import time
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
from counting import Counted, count_files, counting_job, look_at_days
from pyspark.sql import SparkSession
from session import job_parser, run_job, spark_session
from snapshot import take_snapshot

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.ingest.rejects import check_reject_share
from htcl.logs import get_logger, log, log_warning
from htcl.pairs.log_index import (
    FILES,
    SETTINGS,
    LogFile,
    counted_files,
    counting_settings,
    merge_files,
    save_files,
    stale_days,
)
from htcl.pairs.quality import (
    SOURCE,
    day_number,
    days_by_file,
    iso_day,
    quality_rows,
    quality_table,
    reject_rows,
    replaced,
    total_events,
)
from htcl.pairs.store import pair_table
from htcl.pairs.tasks import Job
from htcl.pairs.units import log_files
from htcl.parts import total_rows
from htcl.plan import Step, plan
from htcl.schemas import REJECTS
from htcl.tables import GrowingTable

LOGGER = get_logger("pairs")
Days = frozenset[int]


def main(config: PipelineConfig, arguments: argparse.Namespace) -> None:
    """Count what has to be counted, then publish a snapshot (no range) or stop there (a range of days)."""
    step = plan(config, inputs=arguments.inputs)["pairs"]
    days = day_range(arguments.start, arguments.end)
    as_of: int | None = arguments.as_of
    if days is not None and as_of is not None:
        raise HTCLError("--as-of rebuilds a snapshot and counts nothing; leave out --start and --end")
    if as_of is not None:
        step = _of_version(config, step, as_of)
    if step.published and days is None:
        log(LOGGER, "already published", key=step.key)
        return
    started = time.monotonic()
    with spark_session(config, "mine_pairs") as spark:
        log(LOGGER, "session started", seconds=time.monotonic() - started)
        version = as_of if as_of is not None else bring_up_to_date(spark, config, days)
        if days is None:
            _publish_snapshot(spark, config, step, version)


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


def bring_up_to_date(spark: SparkSession, config: PipelineConfig, days: Days | None) -> int:
    """Count some days of the log, or those whose files changed, and commit them.

    Args:
        spark: the session.
        config: reads `interactions` and `pairs`.
        days: of the log that are counted again, whatever changed; None: what is new or changed.

    Returns:
        The version of the counts.
    """
    table = pair_table(config.workspace)
    base, settings = table.version(), counting_settings(config)
    known = table.properties() if base >= 0 else {}
    same = known.get(SETTINGS) in (None, settings)
    if days is not None and not same:
        raise HTCLError(
            "the settings that counts hang on have changed since they were made; "
            "run the pairs step without --start and --end to count the whole log"
        )
    counted = counted_files(table, config.workspace) if same else {}
    format_, files = log_files(config.interactions)
    files = {path: _known(file, counted) for path, file in files.items()}
    job = counting_job(config, format_, None)
    if counted or days is not None:
        unknown = [file for file in files.values() if file.days is None]
        looked = look_at_days(spark, job, unknown) if unknown else []
        files |= {file.path: file for file in looked}
        days = stale_days(counted, files.values()) if days is None else days
        if not days:
            log(LOGGER, "counts are up to date", version=base)
            return base
        # What looks back to a changed day changes with it.
        days = frozenset(day + n for day in days for n in range(config.pairs.lookback_days + 1))
    job = replace(job, days=days)
    return _count(spark, job, list(files.values()), counted, settings, base)


def _known(file: LogFile, counted: dict[str, LogFile]) -> LogFile:
    """A file with its days, where it is as it was when it was counted."""
    before = counted.get(file.path)
    return before if before is not None and before.tag == file.tag else file


def _count(
    spark: SparkSession, job: Job, files: list[LogFile], counted: dict[str, LogFile], settings: str, base: int
) -> int:
    config, days = job.config, job.days
    read = files if days is None else [file for file in files if file.days and job.reads(file.days)]
    found = count_files(spark, job, read)
    paths = [file.path for file in read]
    events = _check(config, found, whole=days is None)
    if days is None:
        files = [replace(file, days=seen) for file, seen in zip(read, days_by_file(found.seen, len(read)), strict=True)]
    iso = None if days is None else [str(iso_day(day)) for day in sorted(days)]
    _commit_small(config, reject_rows(found.seen, paths), quality_rows(found.seen, found.funnel), iso, paths)
    index = save_files(config.workspace, merge_files(counted, files, days))
    said = {SETTINGS: settings, FILES: index}
    version = pair_table(config.workspace).commit(found.parts, True if iso is None else iso, base, said)
    rows = total_rows(found.parts)
    log(LOGGER, "counts committed", version=version, days=len(iso) if iso else "all", events=events, rows=rows)
    return version


def _check(config: PipelineConfig, found: Counted, whole: bool) -> int:
    """Events of the log, unless too many of them are refused, or none of them all is positive."""
    events, reasons = total_events(found.seen)
    reasons.pop("forgotten_user", None)  # that is as it should be
    check_reject_share(reasons, events, config.interactions.max_reject_share, "interactions")
    if whole and "positive_events" not in found.funnel["name"].to_pylist():
        raise HTCLError(
            f"interactions: none of {events} events is a positive response by interactions.positive "
            f"({', '.join(config.interactions.positive)}); map your event types there"
        )
    return events


def _commit_small(
    config: PipelineConfig, rejects: pa.Table, quality: pa.Table, days: list[str] | None, files: list[str]
) -> None:
    """Rejects and quality of the days. They are told before the counts, which then are what switches."""
    table = GrowingTable(config.workspace, "rejects", REJECTS, partition_by="source")
    others = table.read(filter_=pc.field("source") == SOURCE)
    table.replace_rows(replaced(others, rejects, days, files), [SOURCE])
    table = quality_table(config.workspace)
    table.replace_rows(replaced(table.read(), quality, days))


def _of_version(config: PipelineConfig, step: Step, version: int) -> Step:
    """The step that takes a snapshot of an earlier version of the counts: an artifact of its own."""
    pair_table(config.workspace).parts(version)  # not there: one sentence now
    recipe = replace(step.recipe, inputs={**step.recipe.inputs, "log_input": f"pair_counts version {version}"})
    published = ArtifactStore(config.workspace).published("pairs", recipe.key)
    return Step("pairs", recipe, published, "as of an earlier version")


def _publish_snapshot(spark: SparkSession, config: PipelineConfig, step: Step, version: int) -> None:
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
    parser.add_argument("--as-of", type=int, metavar="VERSION", help="snapshot of an earlier version of the counts")
    run_job(parser, main)
