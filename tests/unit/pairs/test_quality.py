"""Data quality: what each day held, who was refused and why, and whether the newest day is as usual."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.pairs import QUALITY_FOLDER
from htcl.pairs.figures import FUNNEL, SEEN
from htcl.pairs.judging import NO_DAY, REASONS
from htcl.pairs.quality import (
    SHOWN_DAYS,
    day_number,
    days_by_file,
    gini,
    iso_day,
    quality_rows,
    read_quality,
    reject_rows,
    replaced,
    total_events,
    unusual_days,
)
from htcl.schemas import LOG_QUALITY, QUALITY, REJECTS

GOOD, MISSING, AGAIN = -1, REASONS.index("missing_user_id"), REASONS.index("duplicate_event")
BAD_TS = REASONS.index("bad_ts")


def seen(*rows):
    """Rows of SEEN."""
    columns = [dict(zip(SEEN.names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(columns, SEEN)


SOME = seen(
    (0, 0, "like", GOOD, None, 5),
    (1, 0, "like", GOOD, None, 2),
    (0, 0, "like", MISSING, "track b", 3),
    (0, 0, "skip", MISSING, "track a", 1),
    (0, 0, None, AGAIN, "track a", 2),
    (1, 1, None, REASONS.index("missing_event_type"), "track z", 1),
    (1, NO_DAY, "like", BAD_TS, "ts soon", 4),
)


def test_days_and_their_numbers():
    assert [iso_day(day) for day in (0, 20_178, -1, NO_DAY)] == ["1970-01-01", "2025-03-31", "1969-12-31", None]
    assert [day_number(iso) for iso in ("1970-01-01", "2025-03-31", "1969-12-31")] == [0, 20_178, -1]


def test_quality_tells_events_by_type_rejects_by_reason_and_the_funnel():
    funnel = pa.Table.from_pylist([{"day": 0, "name": "baskets", "value": 4}], FUNNEL)
    rows = quality_rows(SOME, funnel)
    assert rows.schema == LOG_QUALITY
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        ("1970-01-01", "events", "like", 10),  # the refused were events, the repetitions are among them
        ("1970-01-01", "events", "skip", 1),
        ("1970-01-01", "funnel", "baskets", 4),
        ("1970-01-01", "rejects", "duplicate_event", 2),
        ("1970-01-01", "rejects", "missing_user_id", 4),
        ("1970-01-02", "events", "(none)", 1),
        ("1970-01-02", "rejects", "missing_event_type", 1),
    ]


def test_rejects_are_one_row_a_file_day_and_reason_with_an_example():
    rows = reject_rows(SOME, ["a.csv", "dt=1/b.csv"])
    assert rows.schema == REJECTS
    names = ("key", "reason", "detail", "dt", "n_rows")
    assert [tuple(row[name] for name in names) for row in rows.to_pylist()] == [
        ("a.csv", "missing_user_id", "track a", "1970-01-01", 4),
        ("a.csv", "duplicate_event", "track a", "1970-01-01", 2),
        ("dt=1/b.csv", "bad_ts", "ts soon", None, 4),
        ("dt=1/b.csv", "missing_event_type", "track z", "1970-01-02", 1),
    ]
    assert set(rows["source"].to_pylist()) == {"interactions"}


def test_a_repetition_is_one_event_that_was_counted_when_it_was_read():
    assert total_events(SOME) == (
        16,
        {"bad_ts": 4, "missing_user_id": 4, "missing_event_type": 1, "duplicate_event": 2},
    )


def test_days_of_a_file_are_those_of_its_rows():
    assert days_by_file(SOME, 3) == [frozenset({0}), frozenset({0, 1}), frozenset()]


def test_nothing_seen_makes_no_rows():
    assert quality_rows(seen(), FUNNEL.empty_table()).num_rows == reject_rows(seen(), []).num_rows == 0
    assert total_events(seen()) == (0, {})


def rejects(*rows):
    """Rows of REJECTS out of (file, day, detail)."""
    columns = [
        {"source": "interactions", "key": k, "reason": "r", "detail": d, "dt": dt, "n_rows": 1} for k, dt, d in rows
    ]
    return pa.Table.from_pylist(columns, REJECTS)


def told(table):
    return [(row["key"], row["dt"], row["detail"]) for row in table.to_pylist()]


def test_rows_of_counted_days_are_replaced_and_those_without_a_day_by_their_file():
    before = rejects(("a", "2025-03-30", "1"), ("a", "2025-03-31", "2"), ("a", None, "3"), ("b", None, "4"))
    fresh = rejects(("a", "2025-03-31", "5"), ("a", None, "6"))
    found = replaced(before, fresh, ["2025-03-31"], ["a"])
    assert told(found) == [
        ("a", "2025-03-30", "1"),
        ("b", None, "4"),
        ("a", "2025-03-31", "5"),
        ("a", None, "6"),
    ]
    assert told(replaced(before, fresh, None)) == told(fresh)
    assert told(replaced(before, fresh.slice(0, 0), [], [])) == told(before)


def quality(days):
    """Rows of LOG_QUALITY out of day -> name -> value."""
    rows = [
        {"dt": day, "measure": "events", "name": name, "value": value}
        for day, values in days.items()
        for name, value in values.items()
    ]
    return pa.Table.from_pylist(rows, LOG_QUALITY)


def test_quality_is_replaced_by_day():
    before = quality({"2025-03-30": {"like": 1}, "2025-03-31": {"like": 2, "skip": 2}})
    fresh = quality({"2025-03-31": {"like": 3}})
    assert replaced(before, fresh, ["2025-03-31"]).to_pylist() == [*before.to_pylist()[:1], *fresh.to_pylist()]


TODAY = dt.date(2025, 3, 10)
WEEK = {f"2025-03-{day:02}": {"like": 1000} for day in range(1, 9)}


@pytest.mark.parametrize(
    ("today", "told_of"),
    [
        ({"like": 1000}, []),
        ({"like": 2000}, []),
        ({"like": 500}, []),
        ({"like": 2001}, ["like"]),
        ({"like": 499}, ["like"]),
        ({}, ["like"]),
        ({"like": 1000, "skip": 99}, []),
        ({"like": 1000, "skip": 100}, ["skip"]),
    ],
)
def test_a_day_beyond_the_bounds_of_its_week_is_told(today, told_of):
    sentences = unusual_days(quality({**WEEK, "2025-03-09": {"other": 1, **today}}), 2.0, TODAY)
    assert [sentence.split(":")[0] for sentence in sentences] == [f"events {name}" for name in told_of]


def test_a_sentence_tells_the_day_its_figure_and_what_is_usual():
    (sentence,) = unusual_days(quality({**WEEK, "2025-03-09": {"like": 10}}), 2.0, TODAY)
    assert sentence == "events like: 10 on 2025-03-09, usual are 1000 (median of 7 days)"


def test_only_the_week_before_tells_what_is_usual_and_one_odd_day_in_it_does_not():
    odd = {**WEEK, "2025-03-01": {"like": 10}, "2025-03-05": {"like": 100_000}}
    assert unusual_days(quality({**odd, "2025-03-09": {"like": 1500}}), 2.0, TODAY) == []
    older = {f"2025-02-{day:02}": {"like": 1} for day in range(1, 29)}
    assert unusual_days(quality({**older, **WEEK, "2025-03-09": {"like": 1500}}), 2.0, TODAY) == []


def test_the_newest_whole_day_is_judged_whatever_clocks_that_go_ahead_say():
    ahead = {"2025-03-10": {"like": 3}, "2025-03-11": {"like": 1}}
    assert unusual_days(quality({**WEEK, "2025-03-09": {"like": 1000}, **ahead}), 2.0, TODAY) == []
    (sentence,) = unusual_days(quality({**WEEK, "2025-03-09": {"like": 10}, **ahead}), 2.0, TODAY)
    assert "10 on 2025-03-09" in sentence


def test_a_day_of_the_week_before_that_is_missing_had_nothing():
    days = {"2025-03-01": {"like": 1000}, "2025-03-08": {"like": 1000}, "2025-03-09": {"like": 1000}}
    assert unusual_days(quality(days), 2.0, TODAY) == [
        "events like: 1000 on 2025-03-09, usual are 0 (median of 7 days)"
    ]


@pytest.mark.parametrize("days", [{}, {"2025-03-09": {"like": 5000}}])
def test_without_a_day_before_nothing_is_unusual(days):
    assert unusual_days(quality(days), 2.0, TODAY) == []


def test_the_quality_of_an_artifact_is_a_row_a_day_the_newest_first(tmp_path):
    (tmp_path / QUALITY_FOLDER).mkdir()
    days = {f"{2020 + n // 300}-{1 + n // 28 % 10:02}-{1 + n % 28:02}": {"like": n} for n in range(SHOWN_DAYS + 5)}
    days[max(days)]["skip"] = 7
    whole = {"dt": None, "measure": "gini", "name": "popularity", "value": 0.5}
    table = pa.concat_tables([quality(days).cast(QUALITY), pa.Table.from_pylist([whole], QUALITY)])
    pq.write_table(table, tmp_path / QUALITY_FOLDER / "a.parquet")
    rows, pairs = read_quality(tmp_path)
    assert len(rows) == SHOWN_DAYS and [row["day"] for row in rows] == sorted(days, reverse=True)[:SHOWN_DAYS]
    assert rows[0] == {"day": max(days), "events like": SHOWN_DAYS + 4, "events skip": 7}
    assert rows[1]["events skip"] == 0
    assert pairs == [{"measure": "gini", "name": "popularity", "value": 0.5}]


def naive_gini(values):
    """Half the relative mean absolute difference."""
    return np.abs(np.subtract.outer(values, values)).mean() / (2 * np.mean(values))


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.integers(0, 5), st.floats(0, 1e6)), min_size=1, max_size=30).filter(lambda v: sum(v) > 1e-3)
)
def test_gini_is_half_the_relative_mean_difference(values):
    distinct, counts = np.unique(np.array(values, dtype=np.float64), return_counts=True)
    assert gini(distinct, counts) == pytest.approx(naive_gini(values), abs=1e-9)


def test_gini_of_one_who_has_all_of_equals_and_of_none():
    assert gini(np.array([0.0, 5.0]), np.array([99, 1])) == pytest.approx(0.99)
    assert gini(np.array([3.0]), np.array([7])) == pytest.approx(0)
    assert np.isnan(gini(np.zeros(0), np.zeros(0))) and np.isnan(gini(np.zeros(1), np.array([3])))
