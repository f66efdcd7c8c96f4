"""Times in whatever form a log has them: timestamps, dates, ISO text, YYYYMMDD, seconds to nanoseconds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

MICROS = pa.timestamp("us", "UTC")

_NUMBER_RANGES = ((1e8, 1e10, 1e6), (1e11, 1e13, 1e3), (1e14, 1e16, 1.0), (1e17, 1e19, 1e-3))
"""(from, to, microseconds of one unit): seconds, milli-, micro- and nanoseconds from 1973 to 2286."""

_FIRST, _LAST = (int(np.datetime64(day, "us").astype(np.int64)) for day in ("1800-01-01", "2300-01-01"))
"""What lies outside is no time: platforms write the years 1, 1601 or 1753 where they have none."""


def parse_times(column: pa.Array | pa.ChunkedArray, zone: str) -> pa.Array:
    """Moments of a column of times; null where one cannot be read.

    Args:
        column: timestamps, dates, numbers or text [n].
        zone: time zone of times that name none; of a time that occurs twice the earlier is taken.

    A number counts seconds, milli-, micro- or nanoseconds since 1970, by its size (1973 to 2286 cannot be taken for
    each other), or is a day as YYYYMMDD.

    Returns:
        timestamp[us, UTC] [n].
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    found = _parsed(column, zone)
    micros = found.cast(pa.int64())
    if not pc.any(pc.or_(pc.less(micros, _FIRST), pc.greater_equal(micros, _LAST))).as_py():
        return found
    inside = pc.and_(pc.greater_equal(micros, _FIRST), pc.less(micros, _LAST))
    return pc.if_else(inside, found, pa.scalar(None, MICROS))


def _parsed(column: pa.Array, zone: str) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _parsed(column.dictionary_decode(), zone)
    if pa.types.is_timestamp(kind):
        return _zoned(column.cast(pa.timestamp("us", kind.tz), safe=False), zone)
    if pa.types.is_date(kind):
        return _zoned(column.cast(pa.timestamp("us"), safe=False), zone)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _from_numbers(column, zone)
    return _from_text(column.cast(pa.string()), zone)


def _zoned(column: pa.Array, zone: str) -> pa.Array:
    if column.type.tz:
        return column.cast(MICROS)
    return pc.assume_timezone(column, zone, ambiguous="earliest", nonexistent="earliest").cast(MICROS)


def _from_numbers(column: pa.Array, zone: str) -> pa.Array:
    values = np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan))
    days = np.where((values >= 1e7) & (values < 3e7) & (values == np.floor(values)), values, np.nan)
    return pc.coalesce(_of_size(values), _from_days(days, zone))


def _of_size(values: np.ndarray) -> pa.Array:
    micros = np.full(len(values), np.nan)
    for low, high, factor in _NUMBER_RANGES:
        inside = (values >= low) & (values < high)
        micros[inside] = values[inside] * factor
    known = np.isfinite(micros)
    rounded = np.rint(np.where(known, micros, 0)).astype(np.int64)
    return pa.array(rounded, pa.int64(), mask=~known).cast(MICROS)


def _from_days(days: np.ndarray, zone: str) -> pa.Array:
    text = pd.Series(np.where(np.isfinite(days), np.nan_to_num(days), 0)).astype("int64").astype(str)
    return _naive(pd.to_datetime(text, format="%Y%m%d", errors="coerce"), zone)


def _from_text(column: pa.Array, zone: str) -> pa.Array:
    text = pc.fill_null(pc.utf8_trim_whitespace(column), "")
    iso = pc.match_substring_regex(text, r"^\d{4}-")
    offset = pc.and_(iso, pc.match_substring_regex(text, r"[T ].*([zZ]|[+-]\d{2}(:?\d{2})?)$"))
    day = pc.match_substring_regex(text, r"^[12]\d{7}$")
    number = pc.and_not(
        pc.match_substring_regex(text, r"^[+-]?[\d.]+([eE][+-]?\d+)?$"), pc.match_substring_regex(text, r"^\d{8}$")
    )
    found = pa.nulls(len(text), MICROS)
    for mask, parse in (
        (offset, _with_offset),
        (pc.and_not(iso, offset), lambda rows: _naive(_iso(rows), zone)),
        (day, lambda rows: _naive(pd.to_datetime(rows.to_pandas(), format="%Y%m%d", errors="coerce"), zone)),
        (number, lambda rows: _of_size(pd.to_numeric(rows.to_pandas(), errors="coerce").to_numpy(np.float64))),
    ):
        if pc.any(mask).as_py():
            found = pc.replace_with_mask(found, mask, parse(text.filter(mask)))
    return found


def _with_offset(text: pa.Array) -> pa.Array:
    try:
        return text.cast(MICROS)
    except pa.ArrowInvalid:  # one that cannot be read spoils all; this reader is slower and marks it
        return _moments(_iso(pc.utf8_upper(text), utc=True))


def _iso(text: pa.Array, utc: bool = False) -> pd.Series:
    return pd.Series(pd.to_datetime(text.to_pandas(), format="ISO8601", errors="coerce", utc=utc))


def _moments(times: pd.Series) -> pa.Array:
    return pa.Array.from_pandas(times).cast(MICROS, safe=False)


def _naive(times: pd.Series, zone: str) -> pa.Array:
    return _zoned(pa.Array.from_pandas(times).cast(pa.timestamp("us"), safe=False), zone)
