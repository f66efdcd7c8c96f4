"""Histories out of a log: who liked what when, by which listeners, and whom nobody may see any more."""

import json

import numpy as np
import pytest

from htcl.config_file import validate_config
from htcl.evaluation.histories import read_histories
from htcl.users import forget_user

TRACKS = ["a", "b", "c"]


def event(user, track, ts, kind="like", **more):
    return {"user_id": user, "track_id": track, "ts": f"2025-03-01T10:{ts:02}:00Z", "event_type": kind, **more}


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.setenv("HTCL_USER_KEY", "secret")

    def run(*days, most=100, forgotten=()):
        log = tmp_path / "log"
        log.mkdir(exist_ok=True)
        for number, rows in enumerate(days):
            (log / f"part-{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for user in forgotten:
            forget_user(str(tmp_path / "workspace"), user)
        config = validate_config(
            {
                "workspace": str(tmp_path / "workspace"),
                "catalog": {"path": "c"},
                "interactions": {
                    "path": str(log),
                    "positive": {"like": {}, "play": {"min_duration_ratio": 0.8}},
                    "negative": {"skip": {}},
                },
            },
            "test",
        )
        return read_histories(config, TRACKS, most)

    return run


def by_listener(histories):
    return [
        [TRACKS[song] for song in histories.song[histories.listener == number]] for number in range(histories.listeners)
    ]


def test_positive_responses_to_known_songs_in_the_order_of_time(read):
    found = read(
        [event("u", "c", 3), event("u", "a", 1), event("u", "x", 2), event("u", "b", 4, "play", duration_ratio=0.5)],
        [event("u", "b", 5, "play", duration_ratio=0.9)],
    )
    assert by_listener(found) == [["a", "c", "b"]]
    assert (np.diff(found.ts) > 0).all()


def test_repeated_events_and_songs_refused_in_the_same_session_do_not_count(read):
    rows = [
        event("u", "a", 1, event_id="1"),
        event("u", "a", 1, event_id="1"),
        event("u", "b", 2),
        event("u", "b", 3, "skip"),
    ]
    assert by_listener(read(rows)) == [["a"]]


def test_so_many_listeners_are_a_sample_that_stays_the_same(read):
    days = [[event(f"u{n}", TRACKS[n % 3], n % 60) for n in range(start, start + 40)] for start in (0, 40)]
    everyone, some = read(*days), read(*days, most=7)
    assert (everyone.listeners, some.listeners) == (80, 7)
    np.testing.assert_array_equal(some.ts, read(*days[::-1], most=7).ts)
    assert by_listener(everyone)[:7] == by_listener(some)


def test_forgotten_users_are_not_there(read):
    rows = [event("u", "a", 1), event("v", "b", 2)]
    assert by_listener(read(rows, forgotten=["u"])) == [["b"]]


def test_a_log_without_a_known_song_has_no_listener(read):
    found = read([event("u", "x", 1)])
    assert found.listeners == 0 and len(found.sets().indices) == 0
