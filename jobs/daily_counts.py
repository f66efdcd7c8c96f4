"""The daily counts brought up to date: which days have to be counted, and one commit that replaces exactly these."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
from counting import Counted, count_files, counting_job, days_to_forget, look_at_days
from pyspark.sql import SparkSession

from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.ingest.rejects import check_reject_share
from htcl.logs import get_logger, log
from htcl.pairs.log_index import (
    FILES,
    FORGOTTEN,
    SETTINGS,
    LogFile,
    counted_files,
    counting_settings,
    forgotten_fingerprint,
    merge_files,
    save_files,
    stale_days,
)
from htcl.pairs.quality import (
    SOURCE,
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
from htcl.schemas import REJECTS
from htcl.tables import GrowingTable

LOGGER = get_logger("pairs")
Days = frozenset[int]


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
    base, now = table.version(), _settings(config)
    known = table.properties() if base >= 0 else {}
    same = known.get(SETTINGS) in (None, now[SETTINGS])
    if days is not None and not same:
        raise HTCLError(
            "the settings that counts hang on have changed since they were made; "
            "run the pairs step without --start and --end to count the whole log"
        )
    counted = counted_files(table, config.workspace) if same else {}
    format_, files = log_files(config.interactions)
    files = {path: _known(file, counted) for path, file in files.items()}
    job = counting_job(config, format_, None)
    if days is not None:
        now[FORGOTTEN] = known.get(FORGOTTEN, now[FORGOTTEN])  # users who are on other days too are still to be found
    if counted or days is not None:
        unknown = [file for file in files.values() if file.days is None]
        looked = look_at_days(spark, job, unknown) if unknown else []
        files |= {file.path: file for file in looked}
        forget = counted and now[FORGOTTEN] != known.get(FORGOTTEN)
        if days is None:
            days = stale_days(counted, files.values())
            if forget:
                gone = [counted.pop(path) for path in counted.keys() - files.keys()]
                days = days.union(days_to_forget(spark, job, list(files.values())), *(file.days or () for file in gone))
        if not days and not forget:
            log(LOGGER, "counts are up to date", version=base)
            return base
        # What looks back to a changed day changes with it.
        days = frozenset(day + n for day in days for n in range(config.pairs.lookback_days + 1))
    job = replace(job, days=days)
    return _count(spark, job, list(files.values()), counted, now, base)


def _settings(config: PipelineConfig) -> dict[str, str]:
    """What a commit says of how it was counted."""
    return {SETTINGS: counting_settings(config), FORGOTTEN: forgotten_fingerprint(config.workspace)}


def _known(file: LogFile, counted: dict[str, LogFile]) -> LogFile:
    """A file with its days, where it is as it was when it was counted."""
    before = counted.get(file.path)
    return before if before is not None and before.tag == file.tag else file


def _count(
    spark: SparkSession, job: Job, files: list[LogFile], counted: dict[str, LogFile], said: dict[str, str], base: int
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
    said = {**said, FILES: save_files(config.workspace, merge_files(counted, files, days))}
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
