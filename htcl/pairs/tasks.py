"""What Spark's tasks do with the log: read and judge, count a part of the users, merge a bucket of the pairs.

Between them rows travel as blocks (`htcl.pairs.blocks`) under the number of the part that they go to.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htcl.config import PairsConfig, PipelineConfig
from htcl.ingest.log import read_log_file, read_log_times
from htcl.pairs.activity import Histogram, activity
from htcl.pairs.baskets import MICROSECONDS_A_DAY
from htcl.pairs.blocks import counts_table, pack, shared_out, table_counts, unpack
from htcl.pairs.counting import SOURCES, add_up
from htcl.pairs.figures import added_funnel, added_seen, funnel_rows, seen_rows
from htcl.pairs.judging import FORGOTTEN, Rules, judge
from htcl.pairs.partition import count_events, distinct_events, pair_buckets
from htcl.pairs.sorting import Int64, mixed, run_starts
from htcl.pairs.store import bucket_name, pair_table
from htcl.parts import Part
from htcl.schemas import PAIR_COUNTS

FLUSH_ROWS = 1 << 21
"""Events that a reading task holds before it shares them out: less are many small blocks, more need memory."""

EVENTS_BLOCK, SEEN_BLOCK, COUNTS_BLOCK, FUNNEL_BLOCK = "events", "seen", "counts", "funnel"

Record = tuple[int, tuple[str, bytes]]
"""(part it goes to, (kind of block, block))."""


@dataclass(frozen=True)
class Unit:
    """One piece of the log that a task reads.

    Attributes:
        file: number of the file.
        uri: the file.
        row_groups: of a large Parquet file those that it reads; None for all.
    """

    file: int
    uri: str
    row_groups: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Job:
    """What all tasks of one counting know.

    Attributes:
        config: reads `interactions`, `pairs` and the workspace.
        format: of the log's files.
        rules: how rows are judged.
        days: days since 1970 that are counted; None for all.
        parts: of the users, each counted by one task.
    """

    config: PipelineConfig
    format: str
    rules: Rules
    days: frozenset[int] | None
    parts: int = 1

    @property
    def pairs(self) -> PairsConfig:
        """The section `pairs`."""
        return self.config.pairs

    def needed(self, day: Int64) -> npt.NDArray[np.bool_]:
        """Which rows of these days [n] have to be read: the counted days and those they look back to."""
        if self.days is None:
            return np.ones(len(day), dtype=bool)
        back = range(self.pairs.lookback_days + 1)
        return np.isin(day, np.array([d - n for d in self.days for n in back], dtype=np.int64))

    def reads(self, days: frozenset[int]) -> bool:
        """Whether a file that has events of `days` has to be read."""
        return bool(self.needed(np.array(sorted(days), dtype=np.int64)).any())

    def counted(self, day: Int64) -> npt.NDArray[np.bool_]:
        """Which of these days [n] are counted."""
        if self.days is None:
            return np.ones(len(day), dtype=bool)
        return np.isin(day, np.array(sorted(self.days), dtype=np.int64))


def read_units(units: Iterator[Unit], job: Job) -> Iterator[Record]:
    """Read and judge pieces of the log; a user's day goes to one part as a whole.

    With a look-back all days of a user do, so one very active user is then one task's work.
    """
    held: list[pa.Table] = []
    for unit in units:
        seen: list[pa.Table] = []
        for rows in read_log_file(unit.uri, job.format, job.config.interactions, unit.row_groups):
            judged = judge(rows, job.rules, unit.file)
            seen.append(seen_rows(judged, unit.file, job.counted))
            day = np.asarray(judged.events["ts"]) // MICROSECONDS_A_DAY
            needed = job.needed(day)
            held.append(judged.events if needed.all() else judged.events.filter(pa.array(needed)))
            if sum(map(len, held)) >= FLUSH_ROWS:
                yield from _to_parts(held, job)
                held = []
        yield unit.file % job.parts, (SEEN_BLOCK, pack(pa.concat_tables(seen, promote_options="none")))
    if held:
        yield from _to_parts(held, job)


def _to_parts(held: list[pa.Table], job: Job) -> Iterator[Record]:
    rows = pa.concat_tables(held).unify_dictionaries().combine_chunks()
    user = np.asarray(rows["user"], dtype=np.int64)
    day = np.asarray(rows["ts"], dtype=np.int64) // MICROSECONDS_A_DAY
    if job.pairs.lookback_days:
        day = np.zeros_like(day)
    part = (mixed(user, day) % np.uint64(job.parts)).astype(np.int64)
    for number, block in shared_out(rows, part, job.parts):
        yield number, (EVENTS_BLOCK, block)


def days_of(units: Iterable[Unit], job: Job) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(file, days since 1970 that this piece of it has events of)."""
    for unit in units:
        days: set[int] = set()
        for times in read_log_times(unit.uri, job.format, job.config.interactions, unit.row_groups):
            moments = np.asarray(times.drop_null().cast(pa.int64()), dtype=np.int64)
            days.update(np.unique(moments // MICROSECONDS_A_DAY).tolist())
        yield unit.file, tuple(sorted(days))


def forgotten_days(units: Iterable[Unit], job: Job) -> Iterator[int]:
    """Days since 1970 on which these pieces have events of forgotten users."""
    for unit in units:
        for rows in read_log_file(unit.uri, job.format, job.config.interactions, unit.row_groups):
            judged = judge(rows, job.rules, unit.file)
            yield from np.unique(judged.day[judged.reason == FORGOTTEN]).tolist()


def count_part(records: Iterable[Record], job: Job, limits: dict[int, int] | None) -> Iterator[Record]:
    """Count the events of one part; the counts go to buckets by pair.

    Args:
        records: what `read_units` sent here.
        job: what is counted.
        limits: from `htcl.pairs.activity.day_limits`; None where heavy users are not bounded.
    """
    events, passed = _sorted_out(records, EVENTS_BLOCK)
    yield from passed
    rows = unpack(events)
    if rows is None:
        return
    part = distinct_events(rows)
    counts, steps = count_events(part, job.pairs, limits, job.counted(part.events.day))
    here = 0
    repeated = part.repeated.filter(pa.array(job.counted(np.asarray(part.repeated["day"], dtype=np.int64))))
    yield here, (SEEN_BLOCK, pack(repeated))
    yield here, (FUNNEL_BLOCK, pack(funnel_rows(steps)))
    table = counts_table(counts, part.songs)
    bucket = pair_buckets(counts, part.songs, job.pairs.buckets)
    for number, block in shared_out(table, bucket, job.pairs.buckets):
        yield number, (COUNTS_BLOCK, block)


def part_activity(records: Iterable[Record], job: Job) -> Iterator[Histogram]:
    """How active the users of one part were, by day."""
    events, _ = _sorted_out(records, EVENTS_BLOCK)
    rows = unpack(events)
    if rows is not None:
        yield activity(distinct_events(rows).events)


def merge_buckets(records: Iterable[Record], job: Job) -> Iterator[Part | tuple[str, bytes]]:
    """Add up the counts of some buckets and write them, a file for each day; figures are passed on added up."""
    counts: dict[int, list[bytes]] = {}
    passed: dict[str, list[bytes]] = {}
    for bucket, (kind, block) in records:
        (counts.setdefault(bucket, []) if kind == COUNTS_BLOCK else passed.setdefault(kind, [])).append(block)
    for kind, add in ((SEEN_BLOCK, added_seen), (FUNNEL_BLOCK, added_funnel)):
        rows = unpack(passed.get(kind, []))
        if rows is not None:
            yield kind, pack(add([rows]))
    for bucket in sorted(counts):
        partial = unpack(counts.pop(bucket))
        if partial is not None:
            yield from _written(bucket, partial, job)


def _sorted_out(records: Iterable[Record], kind: str) -> tuple[list[bytes], list[Record]]:
    """Blocks of one kind, and the records of the others."""
    wanted, others = [], []
    for record in records:
        if record[1][0] == kind:
            wanted.append(record[1][1])
        else:
            others.append(record)
    return wanted, others


def _written(bucket: int, partial: pa.Table, job: Job) -> Iterator[Part]:
    counts, songs = table_counts(partial)
    del partial
    counts = add_up([counts])
    rows = _as_stored(counts_table(counts, songs))
    table = pair_table(job.config.workspace)
    starts = np.append(run_starts(counts.day), len(counts.day))
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        day = str(dt.date(1970, 1, 1) + dt.timedelta(days=int(counts.day[start])))
        yield table.write(rows.slice(start, end - start), day, bucket_name(bucket, job.pairs.buckets))


def _as_stored(rows: pa.Table) -> pa.Table:
    """Rows of COUNTS as rows of PAIR_COUNTS, without the day."""
    stored = pa.schema([field.remove_metadata() for field in PAIR_COUNTS if field.name != "dt"])
    source = pa.array(SOURCES).take(rows["source"])
    columns = {"source": source, "anchor_id": rows["anchor"], "positive_id": rows["positive"]}
    figures = {name: rows[name] for name in ("n_baskets", "weight", "n_negative", "n_impressions", "users")}
    return pa.table({**columns, **figures}).cast(stored)
