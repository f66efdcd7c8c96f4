"""Data quality of the log: what each day held, who was refused and why, and whether today is as usual."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from htcl.pairs import QUALITY_FOLDER
from htcl.pairs.judging import NO_DAY, REASONS
from htcl.schemas import LOG_QUALITY, REJECTS
from htcl.tables import GrowingTable

SOURCE = "interactions"
TRAILING_DAYS = 7
MIN_COUNT = 100
"""Counts below it differ by chance alone."""
SHOWN_DAYS = 60
"""Days of a table that people look at."""
_EPOCH = dt.date(1970, 1, 1)


def iso_day(day: int) -> str | None:
    """Days since 1970 as an ISO date; None for NO_DAY."""
    return None if day == NO_DAY else str(_EPOCH + dt.timedelta(days=day))


def day_number(iso: str) -> int:
    """An ISO date as days since 1970."""
    return (dt.date.fromisoformat(iso) - _EPOCH).days


def quality_rows(seen: pa.Table, funnel: pa.Table) -> pa.Table:
    """Rows of LOG_QUALITY out of what counting saw; rows without a day are a matter of the rejects alone.

    Args:
        seen: rows of SEEN.
        funnel: rows of FUNNEL.
    """
    total: dict[tuple[int, str, str], int] = {}
    for row in seen.filter(pc.not_equal(seen["day"], NO_DAY)).to_pylist():
        keys = [("events", row["event_type"] or "(none)")]
        if row["reason"] >= 0:
            keys.append(("rejects", REASONS[row["reason"]]))
        # A repetition was counted as an event when it was read.
        for measure, name in keys[1:] if _repeats(row) else keys:
            key = (row["day"], measure, name)
            total[key] = total.get(key, 0) + row["n_rows"]
    for row in funnel.to_pylist():
        total[row["day"], "funnel", row["name"]] = row["value"]
    found = [
        {"dt": iso_day(day), "measure": measure, "name": name, "value": value}
        for (day, measure, name), value in sorted(total.items())
    ]
    return pa.Table.from_pylist(found, schema=LOG_QUALITY)


def reject_rows(seen: pa.Table, paths: list[str]) -> pa.Table:
    """Rows of REJECTS: one a file, day and reason.

    Args:
        seen: rows of SEEN.
        paths: of the files by number.
    """
    refused = seen.filter(pc.greater_equal(seen["reason"], 0)).group_by(["file", "day", "reason"], use_threads=False)
    rows = refused.aggregate([("detail", "min"), ("n_rows", "sum")]).to_pylist()
    found = [
        {
            "source": SOURCE,
            "key": paths[row["file"]],
            "reason": REASONS[row["reason"]],
            "detail": row["detail_min"],
            "dt": iso_day(row["day"]),
            "n_rows": row["n_rows_sum"],
        }
        for row in sorted(rows, key=lambda row: (row["file"], row["day"], row["reason"]))
    ]
    return pa.Table.from_pylist(found, schema=REJECTS)


def total_events(seen: pa.Table) -> tuple[int, dict[str, int]]:
    """(rows of the log, rows refused by reason)."""
    events, reasons = 0, dict.fromkeys(REASONS, 0)
    for row in seen.to_pylist():
        events += 0 if _repeats(row) else row["n_rows"]
        if row["reason"] >= 0:
            reasons[REASONS[row["reason"]]] += row["n_rows"]
    return events, {reason: n for reason, n in reasons.items() if n}


def rows_by_day(seen: pa.Table) -> dict[int, int]:
    """Rows of the log by day, refused ones too."""
    once = seen.filter(pc.not_equal(seen["reason"], REASONS.index("duplicate_event")))
    days = once.group_by("day").aggregate([("n_rows", "sum")])
    return dict(zip(days["day"].to_pylist(), days["n_rows_sum"].to_pylist(), strict=True))


def days_by_file(seen: pa.Table, files: int) -> list[frozenset[int]]:
    """Days that each of `files` files has rows of."""
    found: list[set[int]] = [set() for _ in range(files)]
    dated = seen.filter(pc.not_equal(seen["day"], NO_DAY))
    for number, day in zip(dated["file"].to_pylist(), dated["day"].to_pylist(), strict=True):
        found[number].add(day)
    return [frozenset(days) for days in found]


def _repeats(row: Mapping[str, Any]) -> bool:
    return bool(row["reason"] == REASONS.index("duplicate_event"))


def quality_table(workspace: str) -> GrowingTable:
    """What each day of the log held."""
    return GrowingTable(workspace, "log_quality", LOG_QUALITY)


def replaced(rows: pa.Table, fresh: pa.Table, days: Iterable[str] | None, files: Iterable[str] = ()) -> pa.Table:
    """Rows of a small table after some days were counted again.

    Args:
        rows: with a column `dt`, as they were.
        fresh: rows of the days that were counted, and of events without a day.
        days: ISO days that were counted; None for all.
        files: that were read; of these, rows without a day go too.
    """
    if days is None:
        return fresh
    gone = pc.is_in(rows["dt"], value_set=pa.array(list(days), pa.string()))
    if "key" in rows.column_names:
        read = pc.is_in(rows["key"], value_set=pa.array(list(files), pa.string()))
        gone = pc.or_(gone, pc.and_(pc.is_null(rows["dt"]), read))
    return pa.concat_tables([rows.filter(pc.invert(gone)), fresh])


def unusual_days(quality: pa.Table, bound: float, today: dt.date) -> list[str]:
    """Sentences about measures of the newest whole day that differ from the week before beyond a bound.

    Args:
        quality: rows of LOG_QUALITY.
        bound: a measure may be this many times the median of the `TRAILING_DAYS` days before, or its inverse.
        today: a day that is not over yet, UTC; it and what clocks ahead of theirs say of later days are passed over.
    """
    found = {day for day in quality["dt"].to_pylist() if day is not None and day < str(today)}
    days = sorted(map(dt.date.fromisoformat, found))
    if len(days) < 2:
        return []
    newest = days[-1]
    week = (newest - dt.timedelta(days=n) for n in range(1, TRAILING_DAYS + 1))
    before = [str(day) for day in week if day >= days[0]]
    values: dict[tuple[str, str], dict[str, int]] = {}
    for row in quality.to_pylist():
        values.setdefault((row["measure"], row["name"]), {})[row["dt"]] = row["value"]
    sentences = []
    for (measure, name), by_day in sorted(values.items()):
        usual = statistics.median(by_day.get(day, 0) for day in before)
        now = by_day.get(str(newest), 0)
        if max(usual, now) >= MIN_COUNT and not usual / bound <= now <= usual * bound:
            sentences.append(f"{measure} {name}: {now} on {newest}, usual are {usual:g} (median of {len(before)} days)")
    return sentences


def read_quality(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Data quality of a pairs artifact.

    Returns:
        (a row a day, the newest first: `day`, then what was counted by its name; measure, name and value of the whole
        window).
    """
    rows = ds.dataset(folder / QUALITY_FOLDER, format="parquet").to_table().to_pylist()
    days: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["dt"] is not None:
            named = f"{row['measure']} {row['name']}"
            days.setdefault(row["dt"], {"day": row["dt"]})[named] = int(row["value"])
    names = sorted({name for day in days.values() for name in day if name != "day"})
    by_day = [
        {"day": day, **{name: found.get(name, 0) for name in names}}
        for day, found in sorted(days.items(), reverse=True)
    ]
    whole = [{name: row[name] for name in ("measure", "name", "value")} for row in rows if row["dt"] is None]
    return by_day[:SHOWN_DAYS], whole


def gini(values: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> float:
    """Gini coefficient of values: 0 where all are equal, near 1 where one has all; NaN where there is nothing.

    Args:
        values: distinct values [n], ascending, none negative.
        counts: how often each occurs [n].
    """
    total = float((values * counts).sum())
    if not total:
        return float("nan")
    # Twice the area under the Lorenz curve, by trapezoids.
    share = np.cumsum(values * counts) / total
    before = np.concatenate([[0.0], share[:-1]])
    return float(1 - ((share + before) * counts).sum() / counts.sum())
