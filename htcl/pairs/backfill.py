"""A backfill of counts: which days it counts, cut into jobs, and what it would rewrite."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass

from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.pairs.log_index import counted_files, new_files
from htcl.pairs.quality import day_number, iso_day
from htcl.pairs.store import pair_table
from htcl.pairs.units import log_files


@dataclass(frozen=True)
class Chunk:
    """Days that one job counts, both included."""

    start: dt.date
    end: dt.date


@dataclass(frozen=True)
class DayToCount:
    """A day as it stands before a backfill.

    Attributes:
        day: ISO 8601.
        files: of the log that have events of it, as far as they were looked at.
        changed: of these, files that changed since they were counted.
        rows: that are counted now and would be replaced.
    """

    day: str
    files: int
    changed: int
    rows: int


def backfill_chunks(start: dt.date, end: dt.date, lookback_days: int, chunk_days: int) -> list[Chunk]:
    """Cut the days of a backfill, and those that look back to them, into jobs that touch no day together.

    Raises:
        HTCLError: when the end lies before the start.
    """
    if end < start:
        raise HTCLError(f"the backfill's end {end} lies before its start {start}; swap them")
    last, step = end + dt.timedelta(days=lookback_days), dt.timedelta(days=chunk_days)
    starts = [start]
    while starts[-1] + step <= last:
        starts.append(starts[-1] + step)
    return [Chunk(day, min(day + step - dt.timedelta(days=1), last)) for day in starts]


def days_to_count(config: PipelineConfig, chunks: list[Chunk]) -> tuple[list[DayToCount], int]:
    """What jobs would rewrite, without counting anything.

    Returns:
        The days of the chunks that the log or the counts have, and how many files nobody has looked into yet: they may
        have events of any day.
    """
    table = pair_table(config.workspace)
    index = counted_files(table.properties(), config.workspace)
    files = log_files(config.interactions)[1]
    changed = {file.path for file in new_files(index, files.values())}
    rows: Counter[int] = Counter()
    for part in table.parts():
        rows[day_number(str(part.partition))] += part.rows
    all_files: Counter[int] = Counter()
    changed_files: Counter[int] = Counter()
    for path in files.keys() & index.keys():
        all_files.update(index[path].days or ())
        if path in changed:
            changed_files.update(index[path].days or ())
    wanted = [day for chunk in chunks for day in range(day_number(str(chunk.start)), day_number(str(chunk.end)) + 1)]
    days = [
        DayToCount(str(iso_day(day)), all_files[day], changed_files[day], rows[day])
        for day in wanted
        if all_files[day] or rows[day]
    ]
    return days, len(files.keys() - index.keys())
