"""The log to daily counts: pairs, songs, rejects and quality of a log counted by hand, and no user id on the way."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from daily_counts import bring_up_to_date
from mine_pairs import day_range

from htcl.errors import HTCLError
from htcl.pairs.counting import WEIGHT_ONE
from htcl.pairs.quality import quality_table
from htcl.pairs.store import pair_table
from htcl.schemas import REJECTS
from htcl.tables import GrowingTable
from htcl.users import KEY_FILE_VARIABLE, KEY_VARIABLE, forget_user, hash_users, load_user_key

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
    # Events without an id: the same user, song and time is the same event.
    ",2025-03-31T09:00:00Z,listener cem,a,like,,,",
    ",2025-03-31T09:00:00Z,listener cem,a,like,,,",
    "e11,2025-03-31T09:01:00Z,listener cem,b,like,,,a",
    # Shown because of a: once without an answer, once refused within seconds.
    "e08,2025-03-31T09:10:00Z,listener cem,d,shown,,,a",
    "e09,2025-03-31T09:11:00Z,listener cem,c,shown,,,a",
    "e10,2025-03-31T09:11:30Z,listener cem,c,skip,0.05,,a",
    "e12,2025-03-31T12:00:00Z,listener ana,b,like,,,",
    "e13,2025-03-31T12:30:00Z,listener ana,a,like,,,",
    # Refused.
    "e15,2025-03-31T09:02:00Z,,a,like,,,",
    "e16,soon,listener ana,a,like,,,",
    "e17,2025-03-31T09:03:00Z,listener cem,a,play,loud,,",
    "e18,2025-03-31T09:04:00Z,name, listener dan,a,like,,,",
    # Cells of the right number in the wrong order.
    "2025-03-31T09:05:00Z,listener ana,a,like,,,,e19",
    "e20,2025-03-31T09:06:00Z,,listener ana,like,,,",
    "e21,2025-03-31T09:07:00Z,a,b,listener ana,,,",
]
ANA, BEN, CEM = "listener ana", "listener ben", "listener cem"
# (baskets, weight, negative, shown, users)
PAIRS = {
    ("2025-03-30", "copreference", "a", "b"): (1, 1 / 2, 0, 0, {ANA}),
    ("2025-03-30", "copreference", "a", "d"): (1, 1 / 2, 0, 0, {ANA}),
    ("2025-03-30", "copreference", "b", "d"): (1, 1 / 2, 0, 0, {ANA}),
    ("2025-03-30", "triggered", "a", "d"): (1, 1, 0, 0, {ANA}),
    ("2025-03-31", "copreference", "b", "c"): (1, 1, 0, 0, {BEN}),
    ("2025-03-31", "triggered", "b", "c"): (1, 1, 0, 0, {BEN}),
    ("2025-03-31", "copreference", "a", "b"): (2, 2, 0, 0, {ANA, CEM}),
    ("2025-03-31", "triggered", "a", "b"): (1, 1, 0, 0, {CEM}),
    ("2025-03-31", "triggered", "a", "c"): (0, 0, 1, 1, set()),
    ("2025-03-31", "triggered", "a", "d"): (0, 0, 0, 1, set()),
}
ITEMS = {
    ("2025-03-30", "a"): (2, 1 + 1 / 3),
    ("2025-03-30", "b"): (1, 1 / 3),
    ("2025-03-30", "d"): (1, 1 / 3),
    ("2025-03-31", "a"): (2, 1),
    ("2025-03-31", "b"): (3, 1.5),
    ("2025-03-31", "c"): (1, 1 / 2),
}
REFUSED = {
    ("bad_duration_ratio", "a row", "2025-03-31", 1),
    ("bad_ts", "ts like aaaa", None, 2),
    ("duplicate_event", "track a", "2025-03-31", 2),
    ("malformed_row", "a row", None, 1),
    ("missing_user_id", "a row", "2025-03-31", 2),
}
QUALITY = {
    ("2025-03-30", "events", "like"): 3,
    ("2025-03-30", "events", "play"): 2,
    ("2025-03-31", "events", "(other)"): 1,
    ("2025-03-31", "events", "like"): 8,
    ("2025-03-31", "events", "play"): 3,
    ("2025-03-31", "events", "shown"): 2,
    ("2025-03-31", "events", "skip"): 1,
    ("2025-03-31", "rejects", "bad_duration_ratio"): 1,
    ("2025-03-31", "rejects", "duplicate_event"): 2,
    ("2025-03-31", "rejects", "missing_user_id"): 2,
    ("2025-03-30", "funnel", "positive_events"): 4,
    ("2025-03-30", "funnel", "user_days"): 2,
    ("2025-03-30", "funnel", "baskets"): 2,
    ("2025-03-31", "funnel", "positive_events"): 6,
    ("2025-03-31", "funnel", "negative_events"): 1,
    ("2025-03-31", "funnel", "impressions"): 2,
    ("2025-03-31", "funnel", "user_days"): 3,
    ("2025-03-31", "funnel", "baskets"): 3,
}


@pytest.fixture
def log(tmp_path, configured, monkeypatch):
    """The configuration of a workspace with the log above and a key of its own."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(KEY_FILE_VARIABLE, raising=False)
    (tmp_path / "log.csv").write_text("\n".join([HEADER, *LOG]))
    interactions = {
        "path": str(tmp_path / "log.csv"),
        "negative": {"skip": {"max_duration_ratio": 0.1}},
        "impressions": ["shown"],
        "max_reject_share": 0.5,
    }
    return configured(workspace=str(tmp_path / "workspace"), interactions=interactions)


def count(spark, config, start=None, end=None):
    version = bring_up_to_date(spark, config, day_range(start, end))
    return pair_table(config.workspace).read(version).to_pylist()


def pairs_of(rows, config):
    """(day, source, anchor, positive) -> figures, users by their names."""
    key = load_user_key(config.workspace)
    names = {hash_users(pa.array([user]), key)[0].as_py(): user for user in (ANA, BEN, CEM)}
    return {
        (row["dt"], row["source"], row["anchor_id"], row["positive_id"]): (
            row["n_baskets"],
            pytest.approx(row["weight"] / WEIGHT_ONE, abs=1e-5),
            row["n_negative"],
            row["n_impressions"],
            {names[user] for user in row["users"]},
        )
        for row in rows
        if row["source"] != "item"
    }


def test_counts_are_those_of_the_baskets(spark, log):
    rows = count(spark, log)
    assert pairs_of(rows, log) == PAIRS
    items = [row for row in rows if row["source"] == "item"]
    assert all(row["anchor_id"] == row["positive_id"] and row["users"] == [] for row in items)
    found = {(row["dt"], row["anchor_id"]): (row["n_baskets"], row["weight"] / WEIGHT_ONE) for row in items}
    assert found == {key: (n, pytest.approx(weight, abs=1e-5)) for key, (n, weight) in ITEMS.items()}


def test_refused_rows_are_counted_with_file_day_reason_and_an_example(spark, log):
    count(spark, log)
    rows = GrowingTable(log.workspace, "rejects", REJECTS, partition_by="source").read().to_pylist()
    assert {(row["reason"], row["detail"], row["dt"], row["n_rows"]) for row in rows} == REFUSED
    assert {(row["source"], row["key"]) for row in rows} == {("interactions", "log.csv")}


def test_quality_says_what_each_day_held(spark, log):
    count(spark, log)
    rows = quality_table(log.workspace).read().to_pylist()
    assert {(row["dt"], row["measure"], row["name"]): row["value"] for row in rows} == QUALITY


def test_no_user_id_stands_in_any_file_of_the_workspace(spark, log, capfd):
    count(spark, log)
    from pathlib import Path

    written = [path.read_bytes() for path in Path(log.workspace).rglob("*") if path.is_file() and path.suffix != ".key"]
    tables = [str(pair_table(log.workspace).read().to_pylist()), str(quality_table(log.workspace).read().to_pylist())]
    tables.append(str(GrowingTable(log.workspace, "rejects", REJECTS, partition_by="source").read().to_pylist()))
    text = b"\n".join(written).decode(errors="replace") + "".join(tables) + "".join(capfd.readouterr())
    assert "listener" not in text
    # Nor what anybody could make of an id without the key.
    for user in (ANA, BEN, CEM):
        bare = hashlib.blake2b(user.encode(), digest_size=8).digest()
        assert str(int.from_bytes(bare, "big") >> 1) not in text


def test_a_range_counts_its_days_only(spark, log):
    rows = count(spark, log, "2025-03-30", "2025-03-30")
    assert pairs_of(rows, log) == {key: value for key, value in PAIRS.items() if key[0] == "2025-03-30"}
    assert {row["dt"] for row in rows} == {"2025-03-30"}
    days = set(quality_table(log.workspace).read()["dt"].to_pylist())
    assert days == {"2025-03-30"}


def test_a_second_count_without_a_change_commits_nothing(spark, log):
    count(spark, log)
    before = pair_table(log.workspace).version()
    count(spark, log)
    assert pair_table(log.workspace).version() == before


def test_other_settings_count_the_whole_log_anew_and_a_range_refuses_to_mix_them(spark, log):
    count(spark, log)
    other = log.model_copy(update={"pairs": log.pairs.model_copy(update={"max_basket_size": 2})})
    with pytest.raises(HTCLError, match=r"settings that counts hang on have changed .* without --start and --end"):
        count(spark, other, "2025-03-30", "2025-03-30")
    pairs = pairs_of(count(spark, other), other)
    assert ("2025-03-30", "copreference", "a", "d") not in pairs  # of three songs two are left
    assert ("2025-03-30", "copreference", "a", "b") in pairs


def test_too_many_refused_rows_fail_before_anything_is_committed(spark, log):
    strict = log.model_copy(update={"interactions": log.interactions.model_copy(update={"max_reject_share": 0.05})})
    with pytest.raises(HTCLError, match=r"interactions: 8 of 23 rejected .* 2"):
        count(spark, strict)
    assert not pair_table(log.workspace).exists()


def test_a_log_without_a_positive_event_names_the_setting(spark, log):
    other = log.interactions.model_copy(update={"positive": {"LIKE": next(iter(log.interactions.positive.values()))}})
    with pytest.raises(HTCLError, match=r"none of 23 events is a positive response .*\(LIKE\); map your event types"):
        count(spark, log.model_copy(update={"interactions": other}))


def test_a_forgotten_user_counts_no_more(spark, log):
    count(spark, log)
    forget_user(log.workspace, ANA)
    rows = count(spark, log, "2025-03-30", "2025-03-31")
    assert all(ANA not in users for *_, users in pairs_of(rows, log).values())
    assert ("2025-03-30", "copreference", "a", "b") not in pairs_of(rows, log)
    rejects = GrowingTable(log.workspace, "rejects", REJECTS, partition_by="source").read()
    assert pc.sum(rejects.filter(pc.equal(rejects["reason"], "forgotten_user"))["n_rows"]).as_py() == 6


def test_heavy_users_are_bounded_by_the_percentile_of_their_day(spark, configured, tmp_path):
    rows = defaultdict(list)
    for user in range(20):
        songs = 40 if user == 0 else 2
        for song in range(songs):
            rows["2025-03-31"].append(
                {
                    "ts": f"2025-03-31T10:{song:02}:00Z",
                    "user_id": f"u{user}",
                    "track_id": f"t{song}",
                    "event_type": "like",
                }
            )
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows["2025-03-31"]))

    def counted(name, **pairs):
        config = configured(
            workspace=str(tmp_path / name), interactions={"path": str(tmp_path / "log.jsonl")}, pairs=pairs
        )
        found = [row for row in count(spark, config) if row["source"] == "item"]
        funnel = quality_table(config.workspace).read().to_pylist()
        heavy = [row["value"] for row in funnel if row["name"] == "heavy_user_days"]
        return sum(row["n_baskets"] for row in found), heavy

    assert counted("all") == (40 + 19 * 2, [])
    assert counted("thinned", heavy_user_percentile=90) == (2 + 19 * 2, [1])
    assert counted("dropped", heavy_user_percentile=90, heavy_users="drop") == (19 * 2, [1])
