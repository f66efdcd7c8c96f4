"""Rows of the log to judged events: what is refused and why, what is positive; no user id goes further than this."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from htcl.config import InteractionsConfig
from htcl.pairs.baskets import IMPRESSION, MICROSECONDS_A_DAY, NEGATIVE, NEUTRAL, POSITIVE
from htcl.pairs.blocks import EVENTS
from htcl.users import hash_users

CLOCK_SKEW = dt.timedelta(days=1)
"""How far in the future an event may lie: clocks of devices are wrong, and zones are mixed up."""

REASONS = (
    "malformed_row",
    "bad_ts",
    "missing_user_id",
    "missing_track_id",
    "missing_event_type",
    "bad_duration_ratio",
    "bad_played_seconds",
    "forgotten_user",
    "duplicate_event",
    "log_gone",
)
"""Why a row is refused, the first that applies; repeated events are found when a user's day is together, and what comes
late for a day whose log is gone when all is counted."""

FORGOTTEN = REASONS.index("forgotten_user")

SHAPE_LETTERS = 40
"""How much of a bad time is shown."""
OTHER = "(other)"
"""Event types that no setting names. Where cells are shifted anything may stand there, a user id too."""

NO_DAY = np.iinfo(np.int32).min
"""The day of a row without a time."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """One batch of log rows.

    Attributes:
        events: rows of EVENTS, the good ones.
        day: day of every row [n]; NO_DAY where it has none.
        reason: number of the reason in REASONS of every row [n]; -1 for good ones.
        event_type: of every row [n]; OTHER where no setting names it.
        detail: what was seen of every refused row, in their order; never a user id.
    """

    events: pa.Table
    day: npt.NDArray[np.int32]
    reason: npt.NDArray[np.int8]
    event_type: pa.Array
    detail: pa.Array


@dataclass(frozen=True)
class Rules:
    """How rows are judged.

    Attributes:
        section: which event types are positive, negative, impressions.
        key: secret of the user hash.
        forgotten: hashes of users whose events are not there any more.
        now: nothing happens later than `CLOCK_SKEW` after it.
    """

    section: InteractionsConfig
    key: bytes
    forgotten: frozenset[int]
    now: dt.datetime


def judge(rows: pa.Table, rules: Rules, file: int) -> Judged:
    """Judge rows of `htcl.ingest.log.LOG_ROWS` and hash their users.

    Args:
        rows: one batch of one file.
        rules: how they are judged.
        file: number of the file.
    """
    rows = rows.combine_chunks()
    late = pc.fill_null(pc.greater(rows["ts"], pa.scalar(rules.now + CLOCK_SKEW, rows["ts"].type)), False)
    defects = [
        np.asarray(rows["malformed"]),
        _null(rows["ts"]) | np.asarray(late),
        *(_null(rows[name]) for name in ("user_id", "track_id", "event_type")),
        *(_unreadable(rows[name]) for name in ("duration_ratio", "played_seconds")),
    ]
    reason = np.full(len(rows), -1, dtype=np.int8)
    for number in reversed(range(len(defects))):
        reason[defects[number]] = number
    day = np.asarray(pc.fill_null(rows["ts"].cast(pa.int64()), 0)) // MICROSECONDS_A_DAY
    day = np.where(defects[0] | defects[1], NO_DAY, day).astype(np.int32)
    user = hash_users(rows["user_id"].combine_chunks(), rules.key)
    if rules.forgotten:
        gone = np.asarray(pc.is_in(user, value_set=pa.array(sorted(rules.forgotten), pa.int64())))
        reason[(reason < 0) & gone] = FORGOTTEN
    good = np.flatnonzero(reason < 0)
    response = _responses(rows, rules.section)
    events = _events(rows, user, response, file)
    return Judged(
        events if len(good) == len(rows) else events.take(pa.array(good)),
        day,
        reason,
        _named_types(rows["event_type"].combine_chunks(), rules.section),
        _details(rows.filter(pa.array(reason >= 0)), reason[reason >= 0]),
    )


def _null(column: pa.ChunkedArray) -> Bools:
    return np.asarray(column.is_null())


def _unreadable(column: pa.ChunkedArray) -> Bools:
    return np.asarray(pc.is_nan(column).fill_null(False))


def _responses(rows: pa.Table, section: InteractionsConfig) -> npt.NDArray[np.int8]:
    """What each event says of its song; positive wins where rules contradict each other."""
    event_type, ratio, seconds = (rows[name] for name in ("event_type", "duration_ratio", "played_seconds"))
    response = np.full(len(rows), NEUTRAL, dtype=np.int8)
    response[_is_one_of(event_type, section.impressions)] = IMPRESSION
    for name, no in section.negative.items():
        matches = _is_one_of(event_type, [name])
        matches &= _at_most(ratio, no.max_duration_ratio) & _at_most(seconds, no.max_seconds)
        response[matches] = NEGATIVE
    for name, yes in section.positive.items():
        matches = _is_one_of(event_type, [name])
        matches &= _at_least(ratio, yes.min_duration_ratio) & _at_least(seconds, yes.min_seconds)
        response[matches] = POSITIVE
    return response


def _is_one_of(event_type: pa.ChunkedArray, names: Iterable[str]) -> Bools:
    words = event_type.combine_chunks()
    chosen = pc.is_in(words.dictionary, value_set=pa.array(names, pa.string()))
    return np.array(chosen.take(words.indices).fill_null(False))


def _at_least(values: pa.ChunkedArray, limit: float | None) -> Bools:
    """Which values reach a limit; one that is not known does."""
    return np.ones(len(values), dtype=bool) if limit is None else np.asarray(values.fill_null(np.inf)) >= limit


def _at_most(values: pa.ChunkedArray, limit: float | None) -> Bools:
    return np.ones(len(values), dtype=bool) if limit is None else np.asarray(values.fill_null(-np.inf)) <= limit


def _events(rows: pa.Table, user: pa.Array, response: npt.NDArray[np.int8], file: int) -> pa.Table:
    n = len(rows)
    columns = [
        user,
        _hashed(rows["session_id"], none=-1),
        rows["ts"].cast(pa.int64()),
        rows["track_id"],
        rows["trigger_track_id"],
        pa.array(response),
        _hashed(rows["event_id"], none=0),
        pa.array(np.full(n, file, dtype=np.int32)),
    ]
    return pa.table(columns, schema=EVENTS)


def _hashed(column: pa.ChunkedArray, none: int) -> pa.Array:
    """63-bit hashes of texts, the same on every machine."""
    if column.null_count == len(column):
        return pa.array(np.full(len(column), none, dtype=np.int64))
    texts = column.combine_chunks()
    texts = texts if pa.types.is_dictionary(texts.type) else texts.dictionary_encode()
    words = np.array(texts.dictionary.to_pylist(), dtype=object)
    hashes = pd.util.hash_array(words, categorize=False) >> np.uint64(1)
    hashed = pa.array(np.maximum(hashes, 1).astype(np.int64)).take(texts.indices)
    return pc.fill_null(hashed, none)


def _named_types(event_type: pa.Array, section: InteractionsConfig) -> pa.Array:
    """Event types with all that no setting names as one."""
    named = pa.array([*section.positive, *section.negative, *section.impressions], pa.string())
    words = event_type.dictionary
    named_words = pc.if_else(pc.is_in(words, value_set=named), words, OTHER)
    return named_words.take(event_type.indices)


def _details(rows: pa.Table, reason: npt.NDArray[np.int8]) -> pa.Array:
    """What was seen of refused rows: the shape of a bad time, 9 for a digit and a for a letter, and nothing else.

    Where cells are missing or shifted, any of them may hold a user id.
    """
    shape = pc.replace_substring_regex(pc.replace_substring_regex(rows["ts_text"], r"\pN", "9"), r"\pL", "a")
    shape = pc.binary_join_element_wise("ts like ", pc.utf8_slice_codeunits(shape, 0, SHAPE_LETTERS), "")
    moment = pc.if_else(rows["ts"].is_valid(), "ts in the future", shape)
    shown = pa.array(reason == REASONS.index("bad_ts"))
    filled = pc.fill_null(pc.if_else(shown, moment, pa.scalar(None, pa.string())), "a row")
    return filled.combine_chunks() if isinstance(filled, pa.ChunkedArray) else filled
