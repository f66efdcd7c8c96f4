"""A partition of coded events: what is refused, what counts once, and in which rows it comes out."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.pairs.baskets import Events, basket_numbers, form_baskets
from htcl.pairs.counting import copreference_pairs, item_counts, triggered_pairs
from htcl.pairs.tables import COUNT_ROWS, count_partition

SCHEMA = pa.schema(
    [
        *((name, pa.int64()) for name in ("user", "session", "ts", "track", "trigger")),
        ("positive", pa.bool_()),
        ("event", pa.int64()),
        *((name, pa.string()) for name in ("key", "reason", "detail", "dt")),
    ]
)
MINUTE = 60_000_000


def event(user=1, ts=0, track=0, *, session=0, trigger=-1, positive=True, event=0, reason=None, key="log"):
    values = (user, session, ts, track, trigger, positive, event, key, reason, f"track {track}", "1970-01-01")
    return dict(zip(SCHEMA.names, values, strict=True))


def counted(events, gap=30, cap=100):
    """Rows of `count_partition` by kind."""
    batches = list(count_partition(pa.Table.from_pylist(events, SCHEMA), gap, cap))
    assert all(batch.schema == COUNT_ROWS for batch in batches)
    rows = [row for batch in batches for row in batch.to_pylist()]
    return {kind: [r for r in rows if r["kind"] == kind] for kind in ("pair", "item", "reject", "stat")}


def stats(found):
    return {row["key"]: row["n_baskets"] for row in found["stat"]}


EVENTS = st.lists(
    st.builds(
        event,
        user=st.one_of(st.integers(0, 2), st.none()),
        ts=st.integers(0, 200).map(lambda minute: minute // 20 * 20 * MINUTE),
        track=st.integers(0, 4),
        session=st.sampled_from([-1, 0]),
        trigger=st.integers(-1, 4),
        positive=st.booleans(),
        event=st.sampled_from([0, 0, 0, 7, -8]),
    ).map(lambda row: row | {"reason": "missing_user_id"} if row["user"] is None else row),
    max_size=30,
)


def once(events):
    """The good events, each once; of repeated ones the first positive, or else the first."""
    kept = {}
    for row in events:
        same = (row["user"], row["event"]) if row["event"] else (row["user"], row["track"], row["ts"], "none")
        if same not in kept or (row["positive"] and not kept[same]["positive"]):
            kept[same] = row
    return list(kept.values())


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_rows_are_the_counts_of_distinct_positive_events(events):
    found = counted(events, gap=30, cap=3)
    good = [row for row in events if row["reason"] is None]
    heard = once(good)
    columns = [
        np.array([row[name] for row in heard], np.int64) for name in ("user", "session", "ts", "track", "trigger")
    ]
    positive = np.flatnonzero([row["positive"] for row in heard])
    chosen = Events(*columns).take(positive)
    numbers = basket_numbers(Events(*columns), 30)[positive]
    baskets = form_baskets(chosen, numbers, 3)
    expected = Counter()
    for source, counts in (
        ("copreference", copreference_pairs(baskets)),
        ("triggered", triggered_pairs(chosen, numbers)),
    ):
        for i in range(len(counts.day)):
            users = tuple(counts.users[counts.offsets[i] : counts.offsets[i + 1]].tolist())
            row = (counts.anchor[i], counts.positive[i], counts.n_baskets[i], counts.weight[i])
            expected[source, *(int(value) for value in row), users] += 1
    assert expected == Counter(
        (row["source"], row["a"], row["b"], row["n_baskets"], row["weight"], tuple(row["users"]))
        for row in found["pair"]
    )
    items = zip(*(column.tolist() for column in item_counts(baskets)[1:]), strict=True)
    assert sorted(items) == sorted((row["a"], row["n_baskets"], row["weight"]) for row in found["item"])
    assert stats(found) == {
        "events": len(events),
        "positive_events": len(positive),
        "users": len({heard[i]["user"] for i in positive}),
        "baskets": len(baskets.size),
    }
    reasons = Counter(row["reason"] for row in found["reject"])
    assert reasons["duplicate_event"] == len(good) - len(once(good))
    assert reasons["missing_user_id"] == len(events) - len(good)


def test_refused_rows_pass_through_as_they_are():
    refused = event(user=None, track=None, reason="missing_user_id", key="e17") | {"ts": None, "dt": None}
    (row,) = counted([refused, event()])["reject"]
    assert {name: row[name] for name in ("key", "reason", "detail", "dt")} == {
        "key": "e17",
        "reason": "missing_user_id",
        "detail": "track None",
        "dt": None,
    }


def test_days_are_iso_dates_in_utc():
    day = 86_400_000_000
    events = [event(ts=20_089 * day + day - 1, track=track) for track in (0, 1)]
    found = counted(events)
    assert {row["dt"] for row in found["pair"] + found["item"]} == {"2025-01-01"}


def test_same_event_id_counts_once_even_at_another_time():
    found = counted([event(event=5, ts=0), event(event=5, ts=9 * MINUTE), event(event=6, ts=0)])
    assert stats(found)["positive_events"] == 2
    assert [row["reason"] for row in found["reject"]] == ["duplicate_event"]


def test_event_id_of_another_user_is_another_event():
    assert stats(counted([event(user=1, event=5), event(user=2, event=5)]))["positive_events"] == 2


@pytest.mark.parametrize(
    ("between", "pairs"),
    [
        ([], []),
        ([event(ts=20 * MINUTE, track=5, session=-1, positive=False)], [(0, 1)]),
        ([event(user=2, ts=20 * MINUTE, track=5, session=-1, positive=False)], []),
        ([event(ts=20 * MINUTE, track=5, session=-1, positive=False, reason="bad_duration_ratio")], []),
    ],
    ids=["nothing", "skip", "skip of another user", "refused row"],
)
def test_any_event_of_the_user_keeps_a_session_open_not_positive_ones_only(between, pairs):
    likes = [event(ts=ts * MINUTE, track=track, session=-1) for track, ts in enumerate((0, 40))]
    found = counted(likes + between, gap=30)
    assert [(row["a"], row["b"]) for row in found["pair"]] == pairs
    assert stats(found)["baskets"] == 2 - len(pairs)
    assert {row["a"] for row in found["item"]} == {0, 1}


def test_of_a_skip_and_a_like_at_one_time_the_like_stays_in_any_order():
    skip, like = event(positive=False), event(positive=True)
    for order in ([skip, like], [like, skip]):
        assert stats(counted(order))["positive_events"] == 1


def test_close_user_hashes_stay_apart_beside_a_row_without_user():
    # As floats, which a null makes of integers, these two are one number.
    users = [2**62, 2**62 + 1]
    events = [event(user=user) for user in users] + [event(user=None, reason="missing_user_id")]
    found = counted(events)
    assert stats(found)["users"] == 2
    assert [row["reason"] for row in found["reject"]] == ["missing_user_id"]


def test_a_partition_without_good_events_still_counts_what_came_in():
    found = counted([event(user=None, reason="missing_user_id")])
    assert not found["pair"] and not found["item"] and len(found["reject"]) == 1
    assert stats(found) == {"events": 1, "positive_events": 0, "users": 0, "baskets": 0}
