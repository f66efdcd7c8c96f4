"""Times in every form that logs have them are one moment; what is no time is null."""

import datetime as dt
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.ingest.times import MICROS, parse_times

NOON = 1_743_422_400_000_000
"""2025-03-31 12:00 UTC."""

HOUR, DAY = 3_600_000_000, 86_400_000_000

# Read in Tokyo, nine hours ahead of UTC all year.
MOMENTS = {
    "2025-03-31T12:00:00": NOON - 9 * HOUR,
    "2025-03-31 12:00": NOON - 9 * HOUR,
    "2025-03-31T12:00:00.250": NOON - 9 * HOUR + 250_000,
    "2025-03-31": NOON - 12 * HOUR - 9 * HOUR,
    "20250331": NOON - 12 * HOUR - 9 * HOUR,
    "2025-03-31T12:00:00Z": NOON,
    " 2025-03-31T12:00:00Z ": NOON,
    "2025-03-31T12:00:00z": NOON,
    "2025-03-31T12Z": NOON,
    "2025-03-31 12:00:00.25+02:00": NOON - 2 * HOUR + 250_000,
    "2025-03-31T12:00:00+0200": NOON - 2 * HOUR,
    "2025-03-31 12:00-03": NOON + 3 * HOUR,
    "2025-03-31 12+02": NOON - 2 * HOUR,
    "2025-03-31T12:00:00.123456789Z": NOON + 123_456,
    "1743422400": NOON,
    "1743422400.25": NOON + 250_000,
    "1.7434224e9": NOON,
    "1743422400123": NOON + 123_000,
    "1743422400123456": NOON + 123_456,
    "1743422400123456789": NOON + 123_457,
    "-1743422400": None,
    "5": None,
    "2025": None,
    "20250231": None,
    "2025-02-31": None,
    "2025-02-31T12:00:00Z": None,
    "20250331120000": None,
    "12:30": None,
    "31/03/2025": None,
    "2025-03-31T12:00:00 Berlin": None,
    "2025-03-31T25:00:00+02:00": None,
    "NaN": None,
    "Infinity": None,
    "1e30": None,
    "1.2.3": None,
    "9" * 40: None,
    "soon": None,
    "": None,
    # How some platforms write that there is no time, and years that no calendar has.
    "0001-01-01T00:00:00Z": None,
    "0001-01-01T00:00:00": None,
    "9999-12-31T23:59:59Z": None,
    "9999-12-31": None,
}

NUMBERS = [text for text in MOMENTS if text.lstrip("-").replace("e", "").replace(".", "").isdigit()]
NUMBERS = [text for text in NUMBERS if text not in ("1e30", "1.2.3", "9" * 40)]


def micros(column, zone="Asia/Tokyo"):
    times = parse_times(column, zone)
    assert times.type == MICROS and len(times) == len(column)
    return times.cast(pa.int64()).to_pylist()


@pytest.mark.parametrize("text", MOMENTS)
def test_a_time_is_read_from_text_in_the_zone_of_the_log(text):
    assert micros(pa.array([text])) == [MOMENTS[text]]


def test_times_of_all_forms_may_stand_in_one_column():
    texts = [*MOMENTS, None]
    assert micros(pa.array(texts)) == [*MOMENTS.values(), None]
    assert micros(pa.array(texts).dictionary_encode()) == [*MOMENTS.values(), None]
    assert micros(pa.chunked_array([texts[:9], [], texts[9:]])) == [*MOMENTS.values(), None]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_time_is_read_from_a_number(text):
    assert micros(pa.array([json.loads(text)])) == [MOMENTS[text]]


@pytest.mark.parametrize(
    ("values", "moment"),
    [
        (pa.array([1_743_422_400]), NOON),
        (pa.array([1_743_422_400], pa.uint64()), NOON),
        (pa.array([1_743_422_400.25]), NOON + 250_000),
        (pa.array([1_743_422_400_123]), NOON + 123_000),
        (pa.array([1_743_422_400_123_456]), NOON + 123_456),
        (pa.array([20_250_331], pa.int32()), NOON - 12 * HOUR - 9 * HOUR),
        (pa.array([20_250_331.0]), NOON - 12 * HOUR - 9 * HOUR),
        (pa.array([20_250_331.5]), None),
        (pa.array([float("nan")]), None),
        (pa.array([NOON], pa.timestamp("us", "UTC")), NOON),
        (pa.array([NOON], pa.timestamp("us", "America/Lima")), NOON),
        (pa.array([NOON], pa.timestamp("us")), NOON - 9 * HOUR),
        (pa.array([NOON // 1000], pa.timestamp("ms")), NOON - 9 * HOUR),
        (pa.array([NOON * 1000 + 999], pa.timestamp("ns", "UTC")), NOON),
        (pa.array([NOON * 1000], pa.timestamp("ns")), NOON - 9 * HOUR),
        (pa.array([NOON], pa.timestamp("us", "UTC")).dictionary_encode(), NOON),
        (pa.array([NOON // DAY], pa.int32()).cast(pa.date32()), NOON - 12 * HOUR - 9 * HOUR),
        (pa.array([dt.datetime(2025, 3, 31)]).cast(pa.date64()), NOON - 12 * HOUR - 9 * HOUR),
        (pa.array(["2025-03-31T12:00:00Z"], pa.large_string()), NOON),
        (pa.array([b"2025-03-31T12:00:00Z"]), NOON),
        (pa.array(["1743422400.250"]).cast(pa.decimal128(20, 3)), NOON + 250_000),
        (pa.array([True]), None),
        (pa.nulls(1), None),
        (pa.array([-(2**62)], pa.timestamp("us", "UTC")), None),
        (pa.array([2**62], pa.timestamp("us")), None),
        (pa.array([2**31 - 1], pa.int32()).cast(pa.date32()), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_a_time_is_read_from_any_parquet_type(values, moment):
    assert micros(values) == [moment]


@pytest.mark.parametrize("kind", [pa.string(), pa.timestamp("us"), pa.int64(), pa.date32(), pa.null()])
def test_a_column_without_rows_has_no_times(kind):
    assert micros(pa.array([], kind)) == []


BERLIN = {
    # Clocks go from 03:00 back to 02:00 at 01:00 UTC: half past two occurs twice, and the earlier is taken.
    dt.datetime(2025, 10, 26, 1, 59, 59): dt.datetime(2025, 10, 25, 23, 59, 59),
    dt.datetime(2025, 10, 26, 2, 30): dt.datetime(2025, 10, 26, 0, 30),
    dt.datetime(2025, 10, 26, 3, 0): dt.datetime(2025, 10, 26, 2, 0),
    # Clocks go from 02:00 to 03:00 at 01:00 UTC: half past two never is.
    dt.datetime(2025, 3, 30, 1, 59, 59): dt.datetime(2025, 3, 30, 0, 59, 59),
    dt.datetime(2025, 3, 30, 3, 0): dt.datetime(2025, 3, 30, 1, 0),
}


@pytest.mark.parametrize("wall", BERLIN)
@pytest.mark.parametrize("as_text", [True, False])
def test_summer_time_begins_and_ends(wall, as_text):
    column = pa.array([wall.isoformat()]) if as_text else pa.array([wall])
    assert parse_times(column, "Europe/Berlin").to_pylist() == [BERLIN[wall].replace(tzinfo=dt.UTC)]


@pytest.mark.parametrize("as_text", [True, False])
def test_a_time_that_never_was_is_the_moment_when_the_clocks_were_changed(as_text):
    wall = dt.datetime(2025, 3, 30, 2, 30)
    column = pa.array([wall.isoformat()]) if as_text else pa.array([wall])
    (moment,) = parse_times(column, "Europe/Berlin").to_pylist()
    changed = dt.datetime(2025, 3, 30, 1, 0, tzinfo=dt.UTC)
    assert changed - dt.timedelta(microseconds=1) <= moment <= changed


@settings(max_examples=60)
@given(
    st.datetimes(dt.datetime(1974, 1, 1), dt.datetime(2199, 12, 31)),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
)
def test_one_moment_is_the_same_in_every_form(moment, zone):
    utc = moment.replace(tzinfo=dt.UTC)
    seconds = (utc - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    offset = dt.timezone(dt.timedelta(hours=5, minutes=30))
    for column in (
        pa.array([utc]),
        pa.array([utc.isoformat()]),
        pa.array([utc.isoformat().replace("+00:00", "Z")]),
        pa.array([utc.astimezone(offset).isoformat(" ")]),
        pa.array([seconds]),
        pa.array([str(seconds)]),
    ):
        assert micros(column, zone) == [seconds]
    assert micros(pa.array([moment]), zone) == micros(pa.array([moment.isoformat()]), zone)
