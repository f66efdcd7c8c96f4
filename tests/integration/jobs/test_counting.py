"""The log to daily counts: what is refused and why, what is positive, and no user id on the way."""

import datetime as dt
import hashlib
from collections import defaultdict

import pyarrow as pa
import pytest
from counting import HASHED_ROWS, _judged, _user_hasher, count_log
from pyspark.sql.pandas.types import from_arrow_schema

from htcl.pairs.counting import WEIGHT_ONE
from htcl.users import KEY_FILE_VARIABLE, KEY_VARIABLE, hash_users, load_user_key

NOON = dt.datetime(2025, 3, 31, 12, tzinfo=dt.UTC)

READ_ROWS = (
    "ts timestamp, ts_text string, event_id string, user_id string, track_id string, event_type string, "
    "duration_ratio string, session_id string, trigger_track_id string, malformed boolean, place string"
)
"""What `read_log` returns."""

COLUMNS = [column.split()[0] for column in READ_ROWS.split(", ")]


def event(**values):
    """A row of the log with nothing to complain of, but for `values`."""
    good = {
        "ts": NOON,
        "ts_text": "2025-03-31 12:00:00",
        "user_id": "ana",
        "track_id": "t1",
        "event_type": "like",
        "malformed": False,
        "place": "log.csv",
    }
    return {**dict.fromkeys(COLUMNS), **good, **values}


@pytest.fixture
def judged(spark, configured):
    """Rows of `_judged` in the order of the events."""

    def rows(events, **interactions):
        values = [tuple(row[name] for name in COLUMNS) for row in events]
        frame = spark.createDataFrame(values, READ_ROWS).coalesce(1)
        return [row.asDict() for row in _judged(frame, configured(interactions=interactions)).collect()]

    return rows


DEFECTS = [
    ("malformed_row", {"malformed": True}),
    ("bad_ts", {"ts": None, "ts_text": "soon"}),
    ("missing_user_id", {"user_id": None}),
    ("missing_track_id", {"track_id": None}),
    ("missing_event_type", {"event_type": None}),
    ("bad_duration_ratio", {"duration_ratio": "loud"}),
]


def test_the_first_defect_of_a_row_is_its_reason(judged):
    events = []
    for first in range(len(DEFECTS) + 1):
        row = event()
        for _, defect in DEFECTS[first:]:
            row.update(defect)
        events.append(row)
    assert [row["reason"] for row in judged(events)] == [*(reason for reason, _ in DEFECTS), None]


def test_each_defect_alone_has_its_reason(judged):
    rows = judged([event(**defect) for _, defect in DEFECTS])
    assert [row["reason"] for row in rows] == [reason for reason, _ in DEFECTS]


def test_a_time_to_come_is_refused_from_a_day_ahead_on(judged):
    now = dt.datetime.now(dt.UTC)
    hours = [-24, 23, 25]
    events = [event(ts=now + dt.timedelta(hours=h)) for h in hours]
    events.append(event(ts=dt.datetime(2099, 1, 1, tzinfo=dt.UTC), ts_text="2099-01-01"))
    rows = judged(events)
    assert [row["reason"] for row in rows] == [None, None, "bad_ts", "bad_ts"]
    assert rows[-1]["detail"] == "ts 2099-01-01 in log.csv"


def test_what_was_seen_is_the_time_or_the_song_and_the_file(judged):
    rows = judged(
        [
            event(ts=None, ts_text="soon"),
            event(ts=None, ts_text=None),
            event(user_id=None),
            event(track_id=None),
            event(event_id="e7", duration_ratio="loud"),
        ]
    )
    assert [row["detail"] for row in rows] == [
        "ts soon in log.csv",
        "a row in log.csv",
        "track t1 in log.csv",
        "a row in log.csv",
        "track t1 in log.csv",
    ]
    assert [row["key"] for row in rows] == ["log.csv"] * 4 + ["e7"]


def test_key_and_detail_of_a_malformed_row_name_only_the_file(judged):
    cells = {name: f"cell {name}" for name in COLUMNS if name not in ("ts", "malformed", "place")}
    rows = judged([event(**cells, malformed=True), event(**cells, ts=None, malformed=True)])
    assert [(row["key"], row["detail"]) for row in rows] == [("log.csv", "a row in log.csv")] * 2


def test_a_positive_event_is_of_a_listed_type_and_heard_long_enough(judged):
    rule = {"like": {}, "play": {"min_duration_ratio": 0.5}}
    expected = {
        ("like", None): True,
        ("like", "0.1"): True,
        ("play", None): True,
        ("play", "0.5"): True,
        ("play", "0.49"): False,
        ("play", "0"): False,
        ("skip", "1.0"): False,
        ("LIKE", None): False,
        (None, "1.0"): False,
    }
    events = [event(event_type=type_, duration_ratio=ratio) for type_, ratio in expected]
    found = [row["positive"] for row in judged(events, positive=rule)]
    assert dict(zip(expected, found, strict=True)) == expected


def test_without_a_least_share_every_event_of_the_type_is_positive(judged):
    events = [event(event_type="play", duration_ratio=ratio) for ratio in ("0.0", "1.0", None)]
    events.append(event(event_type="like"))
    assert [row["positive"] for row in judged(events, positive={"play": {}})] == [True, True, True, False]


def test_the_day_is_that_of_utc_in_any_time_zone(judged, time_zone):
    time_zone("Asia/Tokyo")
    midnight = dt.datetime(2025, 3, 31, tzinfo=dt.UTC)
    times = [midnight, midnight - dt.timedelta(microseconds=1), NOON, dt.datetime(1969, 12, 31, 23, tzinfo=dt.UTC)]
    rows = judged([event(ts=ts) for ts in times])
    assert [row["dt"] for row in rows] == ["2025-03-31", "2025-03-30", "2025-03-31", "1969-12-31"]
    assert rows[1]["ts"] == rows[0]["ts"] - 1 == 1_743_379_200_000_000 - 1


def test_sessions_and_events_without_an_id_have_none(judged):
    none, first, again, other = judged(
        [event(), *(event(session_id=f"s{n}", event_id=f"e{n}") for n in (1, 1, 2))],
    )
    assert (none["session"], none["event"]) == (-1, 0)
    assert first["session"] == again["session"] >= 0 and other["session"] not in (first["session"], -1)
    assert first["event"] == again["event"] and len({0, first["event"], other["event"]}) == 3


def test_user_ids_are_replaced_before_anything_is_shuffled(spark, configured):
    users = ["ana", None, "Bên", "ana"]
    values = [tuple(event(user_id=user)[name] for name in COLUMNS) for user in users]
    rows = _judged(spark.createDataFrame(values, READ_ROWS).coalesce(1), configured())
    hashed = rows.mapInArrow(_user_hasher(b"secret"), from_arrow_schema(HASHED_ROWS)).collect()
    expected = hash_users(pa.array(users), b"secret").to_pylist()
    assert [row["user"] for row in hashed] == expected
    assert [row["part"] for row in hashed if row["user"] is not None] == [user for user in expected if user is not None]
    assert not any(user in map(str, row) for row in hashed for user in ("ana", "Bên"))


HEADER = "event_id,ts,user_id,track_id,event_type,duration_ratio,session_id,trigger_track_id"
LOG = [
    # One sitting: the play at 10:10 pleases nobody, but bridges the 34 minutes from b to d.
    "e01,2025-03-30T10:00:00Z,listener ana,a,like,,,",
    "e02,2025-03-30T10:05:00Z,listener ana,b,play,0.9,,",
    "e03,2025-03-30T10:10:00Z,listener ana,c,play,0.2,,",
    "e04,2025-03-30T10:39:00Z,listener ana,d,like,,,a",
    # A session over midnight is two baskets; a repeated event counts once.
    "e05,2025-03-30T23:50:00Z,listener ben,a,like,,s1,",
    "e06,2025-03-31T00:10:00Z,listener ben,b,like,,s1,",
    "e07,2025-03-31T03:20:00Z,listener ben,c,play,,s1,b",
    "e07,2025-03-31T03:25:00Z,listener ben,c,play,,s1,b",
    # Events without an id: the same user, song and time is the same event. The trigger is not in the catalog.
    ",2025-03-31T09:00:00Z,listener cem,a,like,,,",
    ",2025-03-31T09:00:00Z,listener cem,a,like,,,",
    "e11,2025-03-31T09:01:00Z,listener cem,b,like,,,gone",
    "e12,2025-03-31T12:00:00Z,listener ana,b,like,,,",
    "e13,2025-03-31T12:30:00Z,listener ana,a,like,,,",
    # Refused.
    "e14,2025-03-31T12:31:00Z,listener ana,gone,like,,,",
    "e15,2025-03-31T09:02:00Z,,a,like,,,",
    "e16,soon,listener ana,a,like,,,",
    "e17,2025-03-31T09:03:00Z,listener cem,a,play,loud,,",
    "e18,2025-03-31T09:04:00Z,name, listener dan,a,like,,,",
]
ANA, BEN, CEM = "listener ana", "listener ben", "listener cem"
PAIRS = {
    ("2025-03-30", "a", "b", "copreference"): (1, 1 / 2, {ANA}),
    ("2025-03-30", "a", "d", "copreference"): (1, 1 / 2, {ANA}),
    ("2025-03-30", "b", "d", "copreference"): (1, 1 / 2, {ANA}),
    ("2025-03-30", "a", "d", "triggered"): (1, 1, {ANA}),
    ("2025-03-31", "b", "c", "copreference"): (1, 1, {BEN}),
    ("2025-03-31", "b", "c", "triggered"): (1, 1, {BEN}),
    ("2025-03-31", "a", "b", "copreference"): (2, 2, {ANA, CEM}),
}
ITEMS = {
    ("2025-03-30", "a"): (2, 1 + 1 / 3),
    ("2025-03-30", "b"): (1, 1 / 3),
    ("2025-03-30", "d"): (1, 1 / 3),
    ("2025-03-31", "a"): (2, 1),
    ("2025-03-31", "b"): (3, 1.5),
    ("2025-03-31", "c"): (1, 1 / 2),
}
REJECTS = [
    ("bad_duration_ratio", "e17", "track a in log.csv", "2025-03-31"),
    ("bad_ts", "e16", "ts soon in log.csv", None),
    ("duplicate_event", "e07", "track c in log.csv", "2025-03-31"),
    ("duplicate_event", "log.csv", "track a in log.csv", "2025-03-31"),
    ("malformed_row", "log.csv", "a row in log.csv"),
    ("missing_user_id", "e15", "track a in log.csv", "2025-03-31"),
    ("unknown_track", "e14", "track gone in log.csv", "2025-03-31"),
]


@pytest.fixture(scope="module")
def log(tmp_path_factory, configured):
    """The configuration of a workspace with the log above and a key of its own."""
    folder = tmp_path_factory.mktemp("log")
    (folder / "log.csv").write_text("\n".join([HEADER, *LOG]))
    config = configured(workspace=str(folder / "workspace"), interactions={"path": str(folder / "log.csv")})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(KEY_VARIABLE, raising=False)
        patch.delenv(KEY_FILE_VARIABLE, raising=False)
        load_user_key(config.workspace)
        yield config


@pytest.fixture(scope="module")
def catalog(spark):
    return spark.createDataFrame([(track,) for track in "dcab"], "track_id string")


@pytest.fixture(scope="module")
def counted(spark, log, catalog):
    return [row.asDict() for row in count_log(spark, log, catalog, []).collect()]


def of_kind(rows, kind):
    return [row for row in rows if row["kind"] == kind]


def pair_totals(rows):
    """Partial rows added up: (day, anchor, positive, source) -> (baskets, weight, users)."""
    totals = defaultdict(lambda: [0, 0, set()])
    for row in of_kind(rows, "pair"):
        total = totals[row["dt"], row["anchor_id"], row["positive_id"], row["source"]]
        total[0] += row["n_baskets"]
        total[1] += row["weight"] / WEIGHT_ONE
        total[2] |= set(row["users"])
    return {key: (n, pytest.approx(weight, abs=1e-5), users) for key, (n, weight, users) in totals.items()}


def hashed(pairs, config):
    """The same pairs with the users as their hashes."""
    key = load_user_key(config.workspace)
    hashes = {user: hash_users(pa.array([user]), key)[0].as_py() for user in (ANA, BEN, CEM)}
    return {pair: (n, weight, {hashes[user] for user in users}) for pair, (n, weight, users) in pairs.items()}


def test_pairs_are_those_of_the_baskets(counted, log):
    assert pair_totals(counted) == hashed(PAIRS, log)


def test_items_are_those_of_the_baskets(counted):
    totals = defaultdict(lambda: [0, 0])
    for row in of_kind(counted, "item"):
        totals[row["dt"], row["anchor_id"]][0] += row["n_baskets"]
        totals[row["dt"], row["anchor_id"]][1] += row["weight"] / WEIGHT_ONE
    assert {key: (n, pytest.approx(weight, abs=1e-5)) for key, (n, weight) in totals.items()} == ITEMS


def test_refused_rows_are_kept_with_reason_key_and_what_was_seen(counted):
    rows = of_kind(counted, "reject")
    found = sorted((row["reason"], row["key"], row["detail"], row["dt"]) for row in rows)
    malformed = [row for row in found if row[0] == "malformed_row"]
    assert [row[:3] for row in malformed] == [row for row in REJECTS if row[0] == "malformed_row"]
    assert [row for row in found if row not in malformed] == [row for row in REJECTS if len(row) == 4]


def test_every_row_of_the_log_is_counted(counted):
    totals = defaultdict(int)
    for row in of_kind(counted, "stat"):
        totals[row["key"]] += row["n_baskets"]
    assert totals == {"events": len(LOG), "positive_events": 10, "users": 3, "baskets": 5}


def test_no_user_id_stands_in_any_column(counted, log):
    text = "\n".join(str(value) for row in counted for value in row.values())
    assert "listener" not in text
    # Nor what anybody could make of an id without the key.
    for user in (ANA, BEN, CEM):
        bare = hashlib.blake2b(user.encode(), digest_size=8).digest()
        assert str(int.from_bytes(bare, "big") >> 1) not in text


def test_a_range_of_days_gives_the_counts_of_those_days(spark, log, catalog):
    rows = count_log(spark, log, catalog, ["2025-03-30"]).collect()
    first = {key: value for key, value in PAIRS.items() if key[0] == "2025-03-30"}
    assert pair_totals(rows) == hashed(first, log)
    assert {row["dt"] for row in rows if row["kind"] != "stat"} == {"2025-03-30"}
