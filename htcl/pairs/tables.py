"""One partition of coded events to rows of counts, rejects and statistics."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htcl.pairs.baskets import Events, Int64, basket_numbers, form_baskets
from htcl.pairs.counting import PairCounts, copreference_pairs, item_counts, triggered_pairs

EVENT_ROWS = pa.schema(
    [
        ("part", pa.int64()),
        ("user", pa.int64()),
        ("session", pa.int64()),
        ("ts", pa.int64()),
        ("track", pa.int64()),
        ("trigger", pa.int64()),
        ("positive", pa.bool_()),
        ("event", pa.int64()),
        ("key", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("dt", pa.string()),
    ]
)
"""Coded events: user hash, hashes of session (-1: none) and event id (0: none), microseconds, catalog codes
(trigger -1: none); `part` brings the rows of a user together; `reason` is null for good rows."""

COUNT_ROWS = pa.schema(
    [
        ("kind", pa.string()),
        ("dt", pa.string()),
        ("a", pa.int64()),
        ("b", pa.int64()),
        ("source", pa.string()),
        ("n_baskets", pa.int64()),
        ("weight", pa.int64()),
        ("users", pa.list_(pa.int64())),
        ("key", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""Kinds of row: pair, item, reject, stat; columns that a kind does not use are null."""


def count_partition(rows: pa.Table, session_gap_minutes: int, max_basket_size: int) -> Iterator[pa.RecordBatch]:
    """Count all events of the users of one partition.

    Args:
        rows: of `EVENT_ROWS`; every row of a user is here.
        session_gap_minutes: idle time that ends a session which the log does not name.
        max_basket_size: songs of a basket that are paired at most.

    Yields:
        Batches of `COUNT_ROWS`.
    """
    reason = rows["reason"].combine_chunks()
    refused = ~np.asarray(reason.is_null())
    good = np.flatnonzero(~refused)
    repeated = _repeated(rows, good)
    yield from _rejects(rows.filter(pa.array(refused)), None)
    yield from _rejects(rows.take(pa.array(good[repeated])), "duplicate_event")
    kept = good[~repeated]
    heard = Events(*(np.asarray(rows[name].take(pa.array(kept)), np.int64) for name in _EVENT_COLUMNS))
    positive = np.flatnonzero(np.asarray(rows["positive"])[kept])
    # A skip also shows that the listener is there: only then do the events that please remain.
    numbers = basket_numbers(heard, session_gap_minutes)[positive]
    events = heard.take(positive)
    baskets = form_baskets(events, numbers, max_basket_size)
    yield from _pairs(copreference_pairs(baskets), "copreference")
    yield from _pairs(triggered_pairs(events, numbers), "triggered")
    day, track, n_baskets, weight = item_counts(baskets)
    yield from _batches(kind="item", dt=_days(day), a=track, n_baskets=n_baskets, weight=weight)
    stats = {
        "events": rows.num_rows,
        "positive_events": len(positive),
        "users": len(np.unique(events.user)),
        "baskets": len(baskets.size),
    }
    yield from _batches(kind="stat", key=list(stats), n_baskets=list(stats.values()))


_EVENT_COLUMNS = ("user", "session", "ts", "track", "trigger")


def _repeated(rows: pa.Table, good: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Which good rows repeat an earlier one: the same event, or without an id the same (user, song, time)."""
    # Refused rows may hold nulls, which would make floats of the hashes.
    taken = rows.select(["user", "ts", "track", "event", "positive"]).take(pa.array(good))
    user, ts, track, event, positive = (np.asarray(column) for column in taken.columns)
    named = event != 0
    ts, track = np.where(named, 0, ts), np.where(named, 0, track)
    # Of a skip and a like in the same second the positive one stays, whichever came first.
    order = np.lexsort((~positive, track, ts, event, user))
    same = np.zeros(len(good), dtype=bool)
    columns = [user[order], ts[order], track[order], event[order]]
    same[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    repeated = np.zeros(len(good), dtype=bool)
    repeated[order] = same
    return repeated


def _pairs(counts: PairCounts, source: str) -> Iterator[pa.RecordBatch]:
    users = pa.ListArray.from_arrays(pa.array(counts.offsets, pa.int32()), pa.array(counts.users))
    yield from _batches(
        kind="pair",
        dt=_days(counts.day),
        a=counts.anchor,
        b=counts.positive,
        source=pa.repeat(source, len(counts.day)),
        n_baskets=counts.n_baskets,
        weight=counts.weight,
        users=users,
    )


def _rejects(rows: pa.Table, reason: str | None) -> Iterator[pa.RecordBatch]:
    named = {name: rows[name].combine_chunks() for name in ("dt", "key", "reason", "detail")}
    if reason:
        named["reason"] = pa.repeat(reason, rows.num_rows)
    yield from _batches(kind="reject", **named)


def _batches(kind: str, **columns: object) -> Iterator[pa.RecordBatch]:
    n = len(next(iter(columns.values())))  # type: ignore[arg-type]
    arrays = []
    for field in COUNT_ROWS:
        if field.name == "kind":
            arrays.append(pa.repeat(kind, n))
        elif field.name in columns:
            value = columns[field.name]
            arrays.append(value if isinstance(value, pa.Array) else pa.array(value, field.type))
        else:
            arrays.append(pa.nulls(n, field.type))
    if n:
        yield from pa.Table.from_arrays(arrays, schema=COUNT_ROWS).to_batches(max_chunksize=100_000)


def _days(day: Int64) -> pa.Array:
    return pc.cast(pa.array(day.astype(np.int32), pa.date32()), pa.string())
