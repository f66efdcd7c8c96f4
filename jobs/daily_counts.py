"""The daily counts brought up to date: one commit that replaces exactly the days that were counted."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from counting import Counted, count_files, counting_job
from counting_todo import Days, Todo, find_todo
from pyspark.sql import SparkSession

from htcl.config import PipelineConfig, fingerprint
from htcl.errors import HTCLError
from htcl.ingest.rejects import check_reject_share
from htcl.logs import get_logger, log, log_warning
from htcl.pairs.gone_log import gone_days, judged_rows, late_rows, lost_days, of_days
from htcl.pairs.log_index import FILES, RECOUNTED, LogFile, counted_files, merge_files, save_files
from htcl.pairs.quality import (
    SOURCE,
    days_by_file,
    iso_day,
    quality_rows,
    quality_table,
    reject_rows,
    replaced,
    rows_by_day,
    total_events,
)
from htcl.pairs.store import pair_table
from htcl.pairs.tasks import Job
from htcl.pairs.units import log_files
from htcl.parts import Part, total_rows
from htcl.tables import GrowingTable, Properties, rejects_table

LOGGER = get_logger("pairs")
SHOWN_DAYS = 5
"""Days that a sentence names."""


def bring_up_to_date(spark: SparkSession, config: PipelineConfig, days: Days | None, exact: bool = False) -> int:
    """Count some days of the log, or those whose files changed, and commit them.

    Days whose log is gone, wholly or in part, stay as they were counted, unless they are asked for.

    Args:
        spark: the session.
        config: reads `interactions` and `pairs`.
        days: of the log that are counted again, whatever changed; None: what is new or changed.
        exact: see `find_todo`.

    Returns:
        The version of the counts.

    Raises:
        HTCLError: when too many rows are refused, none is positive, the counts are of another user key, or days are
            asked for that have no log any more, or counts of other settings.
    """
    format_, files = log_files(config.interactions)
    job = counting_job(config, format_, None)
    todo = find_todo(spark, job, files, days, exact)
    if todo.nothing:
        log(LOGGER, "counts are up to date", version=todo.base)
        return todo.base
    return _count(spark, replace(job, days=todo.days), todo)


def _count(spark: SparkSession, job: Job, todo: Todo) -> int:
    config, table, read = job.config, pair_table(job.config.workspace), _files_to_read(job, todo)
    found = count_files(spark, job, read)
    stay = _days_that_stay(job, todo, found.seen)
    events = _check(job, todo, found, stay, read)
    iso = None if job.days is None else _iso(job.days - stay)
    _commit_small(config, todo, found, stay, iso, read)
    files = list(todo.files.values())
    if job.days is None:
        seen = days_by_file(found.seen, len(read))
        files = [replace(file, days=days) for file, days in zip(read, seen, strict=True)]
    counted = None if iso is None else set(iso)
    parts = [part for part in found.parts if counted is None or part.partition in counted]

    def said(newest: Properties) -> Properties:
        """Built on what the newest commit says: another run may have counted other days meanwhile."""
        index = counted_files(newest, config.workspace)
        name = save_files(config.workspace, merge_files(index, files, job.days, stay, todo.dateless))
        return {**todo.said, FILES: name, RECOUNTED: _recounted(newest.get(RECOUNTED), todo, table, parts, iso)}

    version = table.commit(parts, True if iso is None else iso, todo.base, said)
    days, rows = "all" if iso is None else len(iso), total_rows(parts)
    log(LOGGER, "counts committed", version=version, days=days, events=events, rows=rows)
    return version


def _files_to_read(job: Job, todo: Todo) -> list[LogFile]:
    files = todo.files.values()
    if job.days is None:
        return list(files)
    return [file for file in files if file.path in todo.dateless or (file.days and job.reads(file.days))]


def _days_that_stay(job: Job, todo: Todo, seen: pa.Table) -> Days:
    """Days that stay as they were counted: their log, or what they look back to, is gone in whole or in part."""
    gone = gone_days(todo.index, todo.files)
    if not gone:
        return gone
    if job.days is None:
        if dropped := gone.difference(rows_by_day(seen)):
            log_warning(
                LOGGER,
                f"other settings, so the counts of days whose log is gone are dropped: {_named(dropped)}; "
                f"version {todo.base} of tables/pair_counts still has them",
            )
        return frozenset()
    before = None if todo.asked else quality_table(job.config.workspace).read()
    lost = lost_days(job, gone, todo.files, seen, before)
    stay = frozenset(day + n for day in lost for n in range(job.pairs.lookback_days + 1)) & job.days
    if stay and todo.asked:
        raise HTCLError(
            f"the log of {_named(lost)} is gone, so that {_named(stay)} cannot be counted again; leave these days out, "
            "or put their log back"
        )
    if stay:
        log_warning(
            LOGGER,
            f"{_named(stay)} stay as they were counted, since part of their log is gone; what came late for them is in "
            "the rejects as log_gone; --start and --end count what there is",
        )
    return stay


def _check(job: Job, todo: Todo, found: Counted, stay: Days, read: list[LogFile]) -> int:
    """Events of what was counted, unless too many of them are refused, or none of them all is positive."""
    whole = [n for n, file in enumerate(read) if file.path in todo.new and not todo.asked]
    seen = judged_rows(of_days(found.seen, stay, inside=False), None if job.days is None else whole)
    events, reasons = total_events(seen)
    reasons.pop("forgotten_user", None)  # that is as it should be
    section = job.config.interactions
    check_reject_share(reasons, events, section.max_reject_share, "interactions")
    if job.days is None and "positive_events" not in found.funnel["name"].to_pylist():
        raise HTCLError(
            f"interactions: none of {events} events is a positive response by interactions.positive "
            f"({', '.join(section.positive)}); map your event types there"
        )
    return events


def _commit_small(
    config: PipelineConfig, todo: Todo, found: Counted, stay: Days, days: list[str] | None, read: list[LogFile]
) -> None:
    """Rejects and quality of the days. They are told before the counts, which then are what switches."""
    paths = [file.path for file in read]
    seen, funnel = (of_days(rows, stay, inside=False) for rows in (found.seen, found.funnel))
    late = late_rows(found.seen, stay, [n for n, path in enumerate(paths) if path in todo.new])
    rejects, quality = reject_rows(pa.concat_tables([seen, late]), paths), quality_rows(seen, funnel)
    table = rejects_table(config.workspace)
    table.update_rows(lambda others: replaced(others, rejects, days, paths), [SOURCE])
    quality_table(config.workspace).update_rows(lambda others: replaced(others, quality, days))


def _recounted(
    token: str | None, todo: Todo, table: GrowingTable, now: list[Part], days: list[str] | None
) -> str | None:
    """A token that changes where days that were asked for come out differently, by the sizes of their files."""
    if days is None or not todo.asked:
        return token
    named = set(days)
    sizes = [
        sorted((str(part.partition), part.size, part.rows) for part in parts if part.partition in named)
        for parts in (table.parts(), now)
    ]
    return token if sizes[0] == sizes[1] else fingerprint([token, todo.base, days])


def _iso(days: Days) -> list[str]:
    return [str(iso_day(day)) for day in sorted(days)]


def _named(days: Days) -> str:
    shown = ", ".join(_iso(days)[:SHOWN_DAYS])
    return shown + (f" and {len(days) - SHOWN_DAYS} more days" if len(days) > SHOWN_DAYS else "")
