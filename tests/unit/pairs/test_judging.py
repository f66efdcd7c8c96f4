"""Rows of the log to judged events: what is refused and why, what is positive, and no user id on the way."""

import datetime as dt

import pyarrow as pa

from htcl.config import InteractionsConfig
from htcl.ingest.log import LOG_ROWS
from htcl.pairs.baskets import IMPRESSION, NEGATIVE, NEUTRAL, POSITIVE
from htcl.pairs.blocks import EVENTS
from htcl.pairs.judging import CLOCK_SKEW, NO_DAY, REASONS, Rules, judge
from htcl.users import hash_users

NOON = dt.datetime(2025, 3, 31, 12, tzinfo=dt.UTC)
NOW = NOON + dt.timedelta(hours=5)
DAY = 20_178
"""2025-03-31."""

LOUD = float("nan")
"""A number that could not be read."""


def event(**values):
    """A row of the log with nothing to complain of, but for `values`."""
    good = {"ts": NOON, "user_id": "ana", "track_id": "t1", "event_type": "like", "malformed": False}
    return {**dict.fromkeys(LOG_ROWS.names), **good, **values}


def judged(events, forgotten=(), **interactions):
    rows = pa.Table.from_pylist(events, LOG_ROWS)
    section = InteractionsConfig(path="log", **interactions)
    return judge(rows, Rules(section, b"secret", frozenset(forgotten), NOW), file=3)


def reasons(events, **how):
    return [REASONS[number] if number >= 0 else None for number in judged(events, **how).reason]


def responses(events, **how):
    found = judged(events, **how)
    assert (found.reason < 0).all()
    return found.events["response"].to_pylist()


DEFECTS = [
    ("malformed_row", {"malformed": True}),
    ("bad_ts", {"ts": None, "ts_text": "soon"}),
    ("missing_user_id", {"user_id": None}),
    ("missing_track_id", {"track_id": None}),
    ("missing_event_type", {"event_type": None}),
    ("bad_duration_ratio", {"duration_ratio": LOUD}),
    ("bad_played_seconds", {"played_seconds": LOUD}),
]


def test_the_first_defect_of_a_row_is_its_reason():
    events = []
    for first in range(len(DEFECTS) + 1):
        row = event()
        for _, defect in DEFECTS[first:]:
            row.update(defect)
        events.append(row)
    assert reasons(events) == [*(reason for reason, _ in DEFECTS), None]


def test_each_defect_alone_has_its_reason():
    assert reasons([event(**defect) for _, defect in DEFECTS]) == [reason for reason, _ in DEFECTS]


def test_only_good_rows_become_events_in_their_order():
    events = [event(track_id="a"), event(track_id=None), event(track_id="b"), event(user_id=None, track_id="c")]
    found = judged(events)
    assert found.events.schema == EVENTS
    assert found.events["track"].to_pylist() == ["a", "b"]
    assert found.reason.tolist() == [-1, REASONS.index("missing_track_id"), -1, REASONS.index("missing_user_id")]
    assert found.event_type.to_pylist() == ["like"] * 4
    assert len(found.detail) == 2


def test_a_time_to_come_is_refused_from_a_day_ahead_on():
    ahead = [-24, 0, 24, 25]
    events = [event(ts=NOW + dt.timedelta(hours=h)) for h in ahead]
    events.append(event(ts=NOW + CLOCK_SKEW + dt.timedelta(microseconds=1)))
    found = judged([*events, event(ts=dt.datetime(2099, 1, 1, tzinfo=dt.UTC))])
    assert [number >= 0 for number in found.reason] == [False, False, False, True, True, True]
    assert found.day.tolist()[3:] == [NO_DAY] * 3
    assert found.detail.to_pylist()[-1] == "ts in the future"


def test_what_was_seen_is_the_shape_of_a_bad_time_and_nothing_else():
    found = judged(
        [
            event(ts=None, ts_text="ana7 at ٣ " + "x" * 99),
            event(ts=None),
            event(user_id=None),
            event(track_id=None),
            event(event_id="e7", duration_ratio=LOUD),
            event(),
        ]
    )
    assert found.detail.to_pylist() == ["ts like aaa9 aa 9 " + "a" * 30, *["a row"] * 4]


def test_event_types_that_no_setting_names_are_one():
    types = ["like", "ana", None, "skip", "shown", "7"]
    found = judged([event(event_type=name) for name in types], negative={"skip": {}}, impressions=["shown"])
    assert found.event_type.to_pylist() == ["like", "(other)", None, "skip", "shown", "(other)"]


def test_nothing_of_a_malformed_row_is_told():
    cells = {name: f"cell {name}" for name in LOG_ROWS.names if pa.types.is_string(LOG_ROWS.field(name).type)}
    found = judged([event(**cells, malformed=True), event(**cells, ts=None, malformed=True)])
    assert found.detail.to_pylist() == ["a row"] * 2
    assert found.day.tolist() == [NO_DAY] * 2 and len(found.events) == 0


def test_a_positive_event_is_of_a_listed_type_and_heard_long_enough():
    rule = {"like": {}, "play": {"min_duration_ratio": 0.5}}
    expected = {
        ("like", None): POSITIVE,
        ("like", 0.1): POSITIVE,
        ("play", None): POSITIVE,
        ("play", 0.5): POSITIVE,
        ("play", 0.49): NEUTRAL,
        ("play", 0.0): NEUTRAL,
        ("skip", 1.0): NEUTRAL,
        ("LIKE", None): NEUTRAL,
    }
    events = [event(event_type=type_, duration_ratio=ratio) for type_, ratio in expected]
    assert dict(zip(expected, responses(events, positive=rule), strict=True)) == expected


def test_seconds_heard_count_beside_the_share():
    rule = {"play": {"min_duration_ratio": 0.5, "min_seconds": 30}}
    expected = {
        (0.5, 30.0): POSITIVE,
        (0.5, 29.9): NEUTRAL,
        (0.4, 90.0): NEUTRAL,
        (None, 30.0): POSITIVE,
        (None, 3.0): NEUTRAL,
        (0.9, None): POSITIVE,
        (None, None): POSITIVE,
    }
    events = [event(event_type="play", duration_ratio=ratio, played_seconds=s) for ratio, s in expected]
    assert dict(zip(expected, responses(events, positive=rule), strict=True)) == expected


def test_without_a_least_share_every_event_of_the_type_is_positive():
    events = [event(event_type="play", duration_ratio=ratio) for ratio in (0.0, 1.0, None)]
    events.append(event(event_type="like"))
    assert responses(events, positive={"play": {}}) == [POSITIVE, POSITIVE, POSITIVE, NEUTRAL]


def test_a_negative_event_is_of_a_listed_type_and_was_heard_little_enough():
    rule = {"skip": {"max_seconds": 10, "max_duration_ratio": 0.2}, "dislike": {}}
    expected = {
        ("skip", 0.2, 10.0): NEGATIVE,
        ("skip", 0.2, 10.1): NEUTRAL,
        ("skip", 0.21, 1.0): NEUTRAL,
        ("skip", None, 1.0): NEGATIVE,
        ("skip", 0.1, None): NEGATIVE,
        ("skip", None, None): NEGATIVE,
        ("dislike", 1.0, 999.0): NEGATIVE,
        ("ban", 0.0, 0.0): NEUTRAL,
    }
    events = [event(event_type=kind, duration_ratio=ratio, played_seconds=s) for kind, ratio, s in expected]
    assert dict(zip(expected, responses(events, negative=rule), strict=True)) == expected


def test_one_type_may_be_both_by_how_long_it_was_heard_and_positive_wins():
    how = {"positive": {"play": {"min_seconds": 30}}, "negative": {"play": {"max_seconds": 30}}}
    events = [event(event_type="play", played_seconds=s) for s in (5.0, 30.0, 90.0, None)]
    assert responses(events, **how) == [NEGATIVE, POSITIVE, POSITIVE, POSITIVE]


def test_impressions_only_say_that_a_song_was_shown():
    how = {"impressions": ["shown", "listed", "skip", "like"], "negative": {"skip": {}}}
    events = [event(event_type=kind) for kind in ("shown", "listed", "skip", "like", "play", "other")]
    assert responses(events, **how) == [IMPRESSION, IMPRESSION, NEGATIVE, POSITIVE, POSITIVE, NEUTRAL]


def test_days_are_those_of_utc():
    midnight = dt.datetime(2025, 3, 31, tzinfo=dt.UTC)
    times = [midnight, midnight - dt.timedelta(microseconds=1), NOON, dt.datetime(1969, 12, 31, 23, tzinfo=dt.UTC)]
    found = judged([event(ts=ts) for ts in times])
    assert found.day.tolist() == [DAY, DAY - 1, DAY, -1]
    assert found.events["ts"].to_pylist()[:2] == [1_743_379_200_000_000, 1_743_379_200_000_000 - 1]


def test_rows_with_a_time_have_a_day_though_they_are_refused():
    assert judged([event(track_id=None), event(ts=None, user_id=None)]).day.tolist() == [DAY, NO_DAY]


def test_sessions_and_events_without_an_id_have_none():
    events = [event(), *(event(session_id=f"s{n}", event_id=f"e{n}") for n in (1, 1, 2))]
    found = judged(events).events
    (none, first, again, other), ids = found["session"].to_pylist(), found["event"].to_pylist()
    assert (none, ids[0]) == (-1, 0)
    assert first == again >= 0 and other not in (first, -1)
    assert ids[1] == ids[2] and len({0, ids[1], ids[3]}) == 3


def test_hashes_of_sessions_and_events_are_the_same_in_every_batch():
    """A session that spans two files is one."""
    one, other = (judged([event(session_id=s, event_id="e1")]).events for s in ("s1", "s2"))
    both = judged([event(session_id="s2", event_id="e2"), event(session_id="s1", event_id="e1")]).events
    assert both["session"].to_pylist() == [other["session"][0].as_py(), one["session"][0].as_py()]
    assert both["event"].to_pylist()[1] == one["event"][0].as_py()


def test_users_are_hashed_with_the_key_and_nothing_else_names_them():
    users = ["ana", None, "Bên", "ana"]
    found = judged([event(user_id=user) for user in users])
    assert found.events["user"].to_pylist() == hash_users(pa.array(["ana", "Bên", "ana"]), b"secret").to_pylist()
    assert found.events["file"].to_pylist() == [3, 3, 3]
    told = repr((found.events.to_pylist(), found.detail.to_pylist(), found.event_type.to_pylist()))
    assert "ana" not in told and "Bên" not in told
    for column in (*found.events.columns, pa.chunked_array([found.event_type]), pa.chunked_array([found.detail])):
        chunks = [chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk for chunk in column.chunks]
        assert not any(b"ana" in buffer.to_pybytes() for c in chunks for buffer in c.buffers() if buffer)


def test_a_forgotten_user_is_passed_over_and_nothing_is_told_of_it():
    ana = hash_users(pa.array(["ana"]), b"secret")[0].as_py()
    events = [event(), event(user_id="ben"), event(track_id=None), event(user_id=None)]
    found = judged(events, forgotten=[ana, 5])
    assert reasons(events, forgotten=[ana, 5]) == ["forgotten_user", None, "missing_track_id", "missing_user_id"]
    assert found.events["user"].to_pylist() == hash_users(pa.array(["ben"]), b"secret").to_pylist()
    assert found.detail.to_pylist() == ["a row"] * 3


def test_rows_of_several_chunks_are_judged_as_one():
    tables = [pa.Table.from_pylist([event(track_id=t, user_id=u)], LOG_ROWS) for t, u in (("b", "x"), ("a", "y"))]
    tables.append(pa.Table.from_pylist([{**dict.fromkeys(LOG_ROWS.names), "malformed": True}], LOG_ROWS))
    found = judge(pa.concat_tables(tables), Rules(InteractionsConfig(path="log"), b"secret", frozenset(), NOW), 0)
    assert found.events["track"].to_pylist() == ["b", "a"]
    assert found.reason.tolist() == [-1, -1, REASONS.index("malformed_row")]


def test_a_batch_without_rows_has_no_events():
    found = judged([])
    assert found.events.schema == EVENTS and len(found.events) == len(found.detail) == len(found.day) == 0
