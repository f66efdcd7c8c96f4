import json
from collections import Counter, defaultdict

import numpy as np

from htcl.demo.listeners import affinity, sample_listeners, song_blocks


def positive(row: dict) -> bool:
    return row["event_type"] in ("like", "replay") or (row["event_type"] == "play" and row["duration_ratio"] >= 0.8)


def test_dirt_is_about_one_percent_and_of_four_kinds(world, log_rows):
    assert len(log_rows) == world.events
    ids = Counter(row["event_id"] for row in log_rows)
    kinds = [
        sum(count - 1 for count in ids.values()),
        sum(row["track_id"] == "T999999" for row in log_rows),
        sum(row["user_id"] is None for row in log_rows),
        sum(not row["ts"].endswith("Z") for row in log_rows),
    ]
    assert sum(kinds) == world.dirty_events
    assert min(kinds) > 0
    assert 0.005 < world.dirty_events / world.events < 0.015


def test_rows_keep_to_the_contract(clean_rows):
    fields = {"event_id", "ts", "user_id", "session_id", "track_id", "event_type", "duration_ratio"}
    fields |= {"trigger_track_id", "source"}
    assert all(set(row) == fields for row in clean_rows)
    assert {row["event_type"] for row in clean_rows} == {"play", "skip", "like", "replay"}
    for row in clean_rows:
        assert (row["duration_ratio"] is None) == (row["event_type"] == "like")
        assert (row["trigger_track_id"] is not None) == (row["source"] == "recommendation")


def test_rows_lie_in_the_partition_of_their_day(world):
    for file in world.root.glob("interactions/dt=*/part-0.jsonl"):
        day = file.parent.name.removeprefix("dt=")
        stamps = {json.loads(line)["ts"][:10] for line in file.read_text().splitlines()}
        assert stamps <= {day, "2025-13-01"}


def test_trigger_is_an_earlier_positive_of_the_session(clean_rows):
    heard = defaultdict(set)
    triggered = 0
    for row in clean_rows:
        if row["session_id"] is None:
            continue
        if row["trigger_track_id"]:
            triggered += 1
            assert row["trigger_track_id"] in heard[row["session_id"]]
        heard[row["session_id"]].add(row["track_id"])
    assert triggered > len(clean_rows) / 10


def test_no_song_is_heard_before_its_release(clean_rows, songs):
    released = {song.track_id: song.release.isoformat() for song in songs}
    assert all(row["ts"][:10] >= released[row["track_id"]] for row in clean_rows)
    assert any(day >= "2025-02-15" for day in released.values())


def test_positive_events_are_mostly_songs_the_listener_likes(world, clean_rows, songs):
    taste = affinity(sample_listeners(world.listeners, world.seed), songs)
    liked = [taste[int(row["user_id"][1:]), int(row["track_id"][1:])] for row in clean_rows if positive(row)]
    assert np.mean(np.array(liked) > 0.5) > 0.85


def test_popularity_has_a_head_and_a_tail(clean_rows, songs):
    counts = np.sort(np.bincount([int(row["track_id"][1:]) for row in clean_rows], minlength=len(songs)))[::-1]
    assert 0.25 < counts[: len(songs) // 10].sum() / counts.sum() < 0.6
    assert counts[len(songs) // 2] > 50


def test_songs_liked_together_share_told_and_heard_factors(clean_rows, songs):
    baskets = defaultdict(set)
    for row in clean_rows:
        if positive(row) and row["session_id"]:
            baskets[row["session_id"]].add(int(row["track_id"][1:]))
    pairs = [(a, b) for songs_of in baskets.values() for a in songs_of for b in songs_of if a < b]
    left, right = np.array(pairs).T
    # Standardised columns: chance is 0, and 1 means equal factors.
    alike = {name: np.mean(block[left] * block[right]) for name, block in song_blocks(songs).items()}
    assert alike["heard"] > 0.15
    assert alike["genre"] > 0.05
    assert alike["mood"] > 0.05
