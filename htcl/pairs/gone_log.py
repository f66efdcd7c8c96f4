"""Days whose log is gone, wholly or in part: they stay as they were counted, unless somebody asks for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from htcl.pairs.figures import SEEN
from htcl.pairs.judging import NO_DAY, REASONS
from htcl.pairs.log_index import LogFile
from htcl.pairs.quality import iso_day, rows_by_day
from htcl.pairs.tasks import Job

LATE = REASONS.index("log_gone")
Days = frozenset[int]


def gone_days(counted: Mapping[str, LogFile], present: Collection[str]) -> Days:
    """Days that files which are gone were counted for."""
    return frozenset[int]().union(*(file.days or () for path, file in counted.items() if path not in present))


def lost_days(job: Job, gone: Days, now: Mapping[str, LogFile], seen: pa.Table, quality: pa.Table | None) -> Days:
    """Days, of those that were counted and those that these look back to, whose log is gone.

    Args:
        job: of the count.
        gone: from `gone_days`.
        now: the files of now with their days.
        seen: rows of SEEN, of the count.
        quality: rows of LOG_QUALITY from the count before. With them a day is lost, too, that has fewer rows than then;
            where a file was only replaced by another it has not.
    """
    assert job.days is not None
    rows = rows_by_day(seen)
    lost = (gone & job.days).difference(rows)
    present = frozenset[int]().union(*(file.days or () for file in now.values()))
    before = frozenset(day - n for day in job.days for n in range(1, job.pairs.lookback_days + 1))
    lost |= (gone & before) - job.days - present
    if quality is not None:
        events = quality.filter(pc.equal(quality["measure"], "events")).group_by("dt").aggregate([("value", "sum")])
        then = dict(zip(events["dt"].to_pylist(), events["value_sum"].to_pylist(), strict=True))
        lost |= frozenset(day for day in gone & job.days if rows.get(day, 0) < then.get(iso_day(day), 0))
    return lost


def of_days(rows: pa.Table, days: Days, inside: bool) -> pa.Table:
    """Rows of SEEN or FUNNEL of some days, or of all others."""
    found = pc.is_in(rows["day"], value_set=pa.array(sorted(days), pa.int32()))
    return rows.filter(found if inside else pc.invert(found))


def late_rows(seen: pa.Table, days: Days, files: Collection[int]) -> pa.Table:
    """Rows of SEEN for what new and changed files have of days that stay as they were: refused, as `log_gone`."""
    rows = of_days(seen, days, inside=True)
    rows = rows.filter(pc.is_in(rows["file"], value_set=pa.array(sorted(files), pa.int32())))
    n = len(rows)
    changed = {"reason": pa.array([LATE] * n, pa.int8()), "detail": pa.array(["a row"] * n, pa.string())}
    return pa.table({name: changed.get(name, rows[name]) for name in SEEN.names}, SEEN)


def judged_rows(seen: pa.Table, files: Collection[int] | None) -> pa.Table:
    """Rows of SEEN that are held against `max_reject_share`.

    Rows without a day belong to a file as a whole, of which a count of few days sees little else: they count for the
    files that are counted as a whole.

    Args:
        seen: rows of SEEN.
        files: numbers of these files; None for all.
    """
    if files is None:
        return seen
    whole = pc.is_in(seen["file"], value_set=pa.array(sorted(files), pa.int32()))
    return seen.filter(pc.or_(pc.not_equal(seen["day"], NO_DAY), whole))
