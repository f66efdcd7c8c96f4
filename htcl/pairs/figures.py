"""What was seen on the way: rows of the log by file, day, type and refusal, and the steps of the funnel by day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htcl.pairs.judging import NO_DAY, REASONS, Judged
from htcl.pairs.sorting import Int64

SEEN = pa.schema(
    [
        ("file", pa.int32()),
        ("day", pa.int32()),
        ("event_type", pa.string()),
        ("reason", pa.int8()),
        ("detail", pa.string()),
        ("n_rows", pa.int64()),
    ]
)
"""Rows of the log by file, day (NO_DAY: none), event type and number of the reason (-1: good), with an example."""

FUNNEL = pa.schema([("day", pa.int32()), ("name", pa.string()), ("value", pa.int64())])
"""Steps of the funnel by day; partial figures add up."""


def seen_rows(judged: Judged, file: int, counted: Callable[[Int64], npt.NDArray[np.bool_]]) -> pa.Table:
    """Rows of SEEN for one batch of one file; days that are not counted are left out."""
    detail = np.full(len(judged.reason), None, dtype=object)
    detail[judged.reason >= 0] = judged.detail.to_pylist()
    rows = pa.table(
        [
            pa.array(np.full(len(judged.day), file, dtype=np.int32)),
            pa.array(judged.day),
            judged.event_type,
            pa.array(judged.reason),
            pa.array(detail, pa.string()),
            pa.array(np.ones(len(judged.day), dtype=np.int64)),
        ],
        schema=SEEN,
    )
    kept = counted(judged.day.astype(np.int64)) | (judged.day == NO_DAY)
    return added_seen([rows.filter(pa.array(kept))])


def repeated_rows(file: Int64, day: Int64, track: pa.Array) -> pa.Table:
    """Rows of SEEN for events that repeat others."""
    n = len(file)
    detail = pc.binary_join_element_wise("track ", track.cast(pa.string()), "")
    reason = np.full(n, REASONS.index("duplicate_event"), dtype=np.int8)
    columns = [pa.array(file.astype(np.int32)), pa.array(day.astype(np.int32)), pa.nulls(n, pa.string())]
    rows = pa.table([*columns, pa.array(reason), detail, pa.array(np.ones(n, dtype=np.int64))], schema=SEEN)
    return added_seen([rows])


def added_seen(parts: Iterable[pa.Table]) -> pa.Table:
    """Add up rows of SEEN; of several examples the least stays, so that any order gives the same."""
    rows = pa.concat_tables(parts)
    grouped = rows.group_by(["file", "day", "event_type", "reason"], use_threads=False)
    added = grouped.aggregate([("detail", "min"), ("n_rows", "sum")])
    return added.rename_columns([name.removesuffix("_min").removesuffix("_sum") for name in added.column_names]).select(
        SEEN.names
    )


def funnel_rows(steps: Mapping[str, Int64]) -> pa.Table:
    """Rows of FUNNEL.

    Args:
        steps: name -> the day of each thing that counts as one.
    """
    columns: list[tuple[Int64, str, Int64]] = []
    for name, days in steps.items():
        found, value = np.unique(days, return_counts=True)
        columns.append((found, name, value))
    return pa.table(
        [
            pa.array(np.concatenate([day for day, _, _ in columns]).astype(np.int32)),
            pa.array([name for day, name, _ in columns for _ in day], pa.string()),
            pa.array(np.concatenate([value for _, _, value in columns]).astype(np.int64)),
        ],
        schema=FUNNEL,
    )


def added_funnel(parts: Iterable[pa.Table]) -> pa.Table:
    """Add up rows of FUNNEL."""
    grouped = pa.concat_tables(parts).group_by(["day", "name"], use_threads=False)
    return grouped.aggregate([("value", "sum")]).rename_columns(FUNNEL.names)
