"""What was seen on the way: rows by file, day, type and refusal, the same in any order of adding up."""

import datetime as dt
from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.config import InteractionsConfig
from htcl.ingest.log import LOG_ROWS
from htcl.pairs.figures import FUNNEL, SEEN, added_funnel, added_seen, funnel_rows, repeated_rows, seen_rows
from htcl.pairs.judging import NO_DAY, REASONS, Rules, judge

NOON = dt.datetime(2025, 3, 31, 12, tzinfo=dt.UTC)
DAY = 20_178
"""2025-03-31."""


def judged(*events):
    good = {"ts": NOON, "user_id": "ana", "track_id": "t1", "event_type": "like", "malformed": False}
    rows = pa.Table.from_pylist([{**dict.fromkeys(LOG_ROWS.names), **good, **row} for row in events], LOG_ROWS)
    return judge(rows, Rules(InteractionsConfig(path="log"), b"k", frozenset(), NOON), file=3)


def seen(*events, days=(DAY,)):
    found = seen_rows(judged(*events), 3, lambda day: np.isin(day, list(days)))
    assert found.schema.names == SEEN.names
    names = ("day", "event_type", "reason", "detail", "n_rows")
    assert set(found["file"].to_pylist()) <= {3}
    return {tuple(row[name] for name in names) for row in found.to_pylist()}


def test_rows_are_counted_by_day_type_and_reason_with_the_least_example():
    refused = REASONS.index("missing_user_id")
    assert seen({}, {}, {"event_type": "skip"}, {"user_id": None, "track_id": "t2"}, {"user_id": None}) == {
        (DAY, "like", -1, None, 2),
        (DAY, "(other)", -1, None, 1),
        (DAY, "like", refused, "a row", 2),
    }


def test_only_days_that_are_counted_are_told_and_rows_without_one():
    yesterday = {"ts": NOON - dt.timedelta(days=1)}
    nowhen = (NO_DAY, "like", REASONS.index("bad_ts"), "ts like aaaa", 1)
    undated = {"ts": None, "ts_text": "soon"}
    assert seen({}, yesterday, undated) == {(DAY, "like", -1, None, 1), nowhen}
    assert seen({}, yesterday, undated, days=()) == {nowhen}
    assert seen({}, {**yesterday, "track_id": None}, days=(DAY - 1,)) == {
        (DAY - 1, "like", REASONS.index("missing_track_id"), "a row", 1)
    }


def test_repetitions_are_told_by_file_and_day_with_the_least_song():
    found = repeated_rows(np.array([1, 1, 0]), np.array([5, 5, 5]), pa.array(["b", "a", "c"]).dictionary_encode())
    assert found.select(["file", "day", "detail", "n_rows"]).to_pylist() == [
        {"file": 1, "day": 5, "detail": "track a", "n_rows": 2},
        {"file": 0, "day": 5, "detail": "track c", "n_rows": 1},
    ]
    assert {REASONS[reason] for reason in found["reason"].to_pylist()} == {"duplicate_event"}


ROW = st.fixed_dictionaries(
    {
        "file": st.integers(0, 1),
        "day": st.sampled_from([NO_DAY, 1, 2]),
        "event_type": st.sampled_from([None, "like", "skip"]),
        "reason": st.integers(-1, 1),
        "detail": st.sampled_from([None, "a", "b"]),
        "n_rows": st.integers(1, 5),
    }
)
PARTS = st.lists(st.lists(ROW, max_size=6), min_size=1, max_size=4)


@settings(max_examples=50)
@given(PARTS, st.data())
def test_seen_rows_add_up_the_same_in_any_order_and_steps(parts, data):
    tables = [pa.Table.from_pylist(rows, SEEN) for rows in parts]
    whole = sorted(map(repr, added_seen(tables).to_pylist()))
    running = SEEN.empty_table()
    for place in data.draw(st.permutations(range(len(tables)))):
        running = added_seen([running, tables[place]])
    assert sorted(map(repr, running.to_pylist())) == whole
    assert sum(row["n_rows"] for rows in parts for row in rows) == sum(running["n_rows"].to_pylist())
    keys = Counter((row["file"], row["day"], row["event_type"], row["reason"]) for row in running.to_pylist())
    assert set(keys.values()) <= {1}


def test_a_funnel_counts_things_by_their_day_and_adds_up():
    one = funnel_rows({"baskets": np.array([2, 1, 2]), "impressions": np.zeros(0, np.int64)})
    other = funnel_rows({"baskets": np.array([2]), "user_days": np.array([1])})
    assert one.schema == FUNNEL
    found = {(row["day"], row["name"]): row["value"] for row in added_funnel([one, other]).to_pylist()}
    assert found == {(1, "baskets"): 1, (2, "baskets"): 3, (1, "user_days"): 1}
