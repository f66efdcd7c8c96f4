"""All events of some users' days: what counts once, what keeps a session open, and in which counts it ends."""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.config import PairsConfig
from htcl.pairs.activity import activity, day_limits
from htcl.pairs.baskets import IMPRESSION, NEGATIVE, NEUTRAL, POSITIVE
from htcl.pairs.blocks import EVENTS
from htcl.pairs.counting import SOURCES
from htcl.pairs.figures import added_funnel, funnel_rows
from htcl.pairs.judging import REASONS
from htcl.pairs.partition import count_events, distinct_events, pair_buckets
from tests.unit.pairs.reference import DAY, MINUTE, as_dict, copreference, items, lookback, many, triggered

USER = 2**62
moderate = settings(max_examples=25)


def event(user=USER, ts=0, track="a", *, session=7, trigger=None, response=POSITIVE, event=0, file=0):
    values = (user, session, ts, track, trigger, response, event, file)
    return dict(zip(EVENTS.names, values, strict=True))


def part_of(events):
    return distinct_events(pa.Table.from_pylist(events, EVENTS))


def counted(events, limits=None, days=None, **pairs):
    """((day, source, anchor, positive) -> figures and users, step of the funnel -> how many) of some events."""
    part = part_of(events)
    chosen = np.isin(part.events.day, list(days)) if days is not None else np.ones(len(part.events.day), dtype=bool)
    counts, steps = count_events(part, PairsConfig(**pairs), limits, chosen)
    ids = part.songs.to_pylist()
    found = defaultdict(dict)
    for row in range(len(counts.day)):
        key = tuple(int(column[row]) for column in counts.key)
        users = counts.users[counts.offsets[row] : counts.offsets[row + 1]].tolist()
        found[SOURCES[key[1]]][key[0], ids[key[2]], ids[key[3]]] = (*counts.figures[:, row].tolist(), tuple(users))
    assert len(counts.day) == sum(len(rows) for rows in found.values())
    funnel = Counter()
    for row in funnel_rows(steps).to_pylist():
        funnel[row["name"]] += row["value"]
    return found, funnel


def pairs(events, source="copreference", **how):
    return {key[1:] for key in counted(events, **how)[0][source]}


LOG = many(
    st.builds(
        event,
        user=st.integers(0, 2).map(lambda n: USER + n),
        ts=st.integers(0, 300).map(lambda tenth: tenth // 3 * 30 * MINUTE),
        track=st.sampled_from("abcd"),
        session=st.sampled_from([-1, -1, 3, 2**62]),
        trigger=st.sampled_from([None, None, *"abcd"]),
        response=st.sampled_from([POSITIVE, POSITIVE, NEUTRAL, NEGATIVE, IMPRESSION]),
        event=st.sampled_from([0, 0, 0, 7, 2**62]),
        file=st.integers(0, 2),
    ),
    most=20,
)


def once(events):
    """Each event once: of repetitions the most positive, then the earliest, then the one that says most."""
    kept = {}
    for row in events:
        shown = row["response"] == IMPRESSION
        same = (row["ts"] // DAY, row["event"]) if row["event"] else (row["ts"], row["track"], shown, "no id")
        kept.setdefault((row["user"], same), []).append(row)
    return [
        min(
            rows,
            key=lambda row: (-row["response"], row["ts"], row["track"], *backwards(row["trigger"], row["session"])),
        )
        for rows in kept.values()
    ]


def backwards(trigger, session):
    """Order by trigger and session, the greatest first."""
    return (-ord(trigger) if trigger else 0, -session)


def as_rows(events):
    """Rows of the reference; songs by their place in the alphabet."""
    songs = {None: -1, **{track: place for place, track in enumerate("abcd")}}
    return [
        (row["user"], row["session"], row["ts"], songs[row["track"]], songs[row["trigger"]], row["response"])
        for row in events
    ]


def named(reference):
    """Source -> (day, anchor, positive) -> figures and users."""
    found = defaultdict(dict)
    for (day, source, one, other), figures in reference.items():
        found[SOURCES[source]][day, "abcd"[one], "abcd"[other]] = figures
    return found


@moderate
@given(LOG, st.booleans())
def test_counts_are_those_of_distinct_events(events, symmetric):
    rows = as_rows(once(events))
    expected = named(copreference(rows, 3, symmetric) | triggered(rows) | items(rows, 3))
    sources = ["copreference"] if symmetric else []
    assert counted(events, max_basket_size=3, symmetric_sources=sources)[0] == expected


@moderate
@given(LOG, st.integers(1, 7))
def test_looking_back_adds_pairs_over_days(events, days):
    rows = as_rows(once(events))
    inside, over = copreference(rows, 3), lookback(rows, days, 3, basket_cap=3)
    both = {}
    for key in inside.keys() | over.keys():
        found = [reference[key] for reference in (inside, over) if key in reference]
        figures = np.sum([row[:4] for row in found], axis=0).tolist()
        both[key] = (*figures, tuple(sorted(set().union(*(row[4] for row in found)))))
    expected = named(both | triggered(rows) | items(rows, 3))
    assert counted(events, max_basket_size=3, lookback_days=days)[0] == expected


@moderate
@given(LOG, st.data(), st.sampled_from([0, 2]))
def test_the_order_of_rows_does_not_matter(events, data, lookback_days):
    shuffled = data.draw(st.permutations(events))
    limits = dict.fromkeys(range(-1, 8), 2)
    for how in ({}, {"limits": limits}, {"limits": limits, "heavy_users": "drop"}):
        settled = {"max_basket_size": 3, "symmetric_sources": [], "lookback_days": lookback_days, **how}
        assert counted(events, **settled) == counted(shuffled, **settled)
    one, other = (sorted(map(repr, part_of(rows).repeated.to_pylist())) for rows in (events, shuffled))
    assert one == other


@moderate
@given(LOG, st.sets(st.integers(0, 6)))
def test_counting_some_days_gives_their_counts_of_the_whole(events, days):
    how = {"max_basket_size": 3, "lookback_days": 2}
    whole, _ = counted(events, **how)
    some, funnel = counted(events, days=days, **how)
    assert some == {
        source: chosen
        for source, rows in whole.items()
        if (chosen := {key: row for key, row in rows.items() if key[0] in days})
    }
    positive = [row for row in once(events) if row["response"] == POSITIVE and row["ts"] // DAY in days]
    assert funnel["positive_events"] == len(positive)


@moderate
@given(LOG)
def test_the_funnel_counts_distinct_events_users_and_baskets(events):
    found, funnel = counted(events, limits=dict.fromkeys(range(7), 100))
    distinct = once(events)
    kinds = Counter(row["response"] for row in distinct)
    repeated = part_of(events).repeated.to_pylist()
    assert sum(row["n_rows"] for row in repeated) == len(events) - len(distinct)
    assert {REASONS[row["reason"]] for row in repeated} <= {"duplicate_event"}
    expected = {
        "positive_events": kinds[POSITIVE],
        "negative_events": kinds[NEGATIVE],
        "impressions": kinds[IMPRESSION],
        "heavy_user_days": 0,
    }
    assert {name: funnel[name] for name in expected} == expected
    assert funnel["user_days"] <= funnel["baskets"] <= sum(row[0] for row in found["item"].values())


def test_the_same_event_id_counts_once_in_a_day_even_at_another_time():
    events = [event(event=5, ts=0), event(event=5, ts=9 * MINUTE), event(event=6, ts=0), event(event=5, ts=DAY)]
    assert counted(events)[1]["positive_events"] == 3
    assert part_of(events).events.ts.tolist() == [0, 0, DAY]


def test_an_event_id_of_another_user_is_another_event():
    assert counted([event(user=1, event=5), event(user=2, event=5)])[1]["positive_events"] == 2


def test_a_repetition_is_told_with_its_file_day_and_song():
    events = [event(ts=DAY, file=2, track="b"), event(ts=DAY, file=1, track="b"), event(ts=DAY, file=1)]
    (row,) = part_of(events).repeated.to_pylist()
    assert (row["file"], row["day"], row["detail"], row["n_rows"]) == (2, 1, "track b", 1)


@pytest.mark.parametrize(("before", "after"), [(NEGATIVE, POSITIVE), (NEUTRAL, POSITIVE), (NEGATIVE, NEUTRAL)])
def test_of_two_responses_at_one_time_the_more_positive_stays_in_any_order(before, after):
    one, other = event(response=before), event(response=after)
    for order in ([one, other], [other, one]):
        assert part_of(order).events.response.tolist() == [after]


def test_showing_a_song_is_no_response_to_it():
    events = [event(trigger="b", response=response) for response in (IMPRESSION, POSITIVE)]
    (row,) = counted(events)[0]["triggered"].values()
    assert row[:1] + row[2:4] == (1, 0, 1)


def test_of_two_like_events_the_one_that_names_its_trigger_stays():
    one, other = event(), event(trigger="b")
    for order in ([one, other], [other, one]):
        assert pairs(order, "triggered") == {("b", "a")}


@pytest.mark.parametrize(
    ("between", "found"),
    [
        ([], set()),
        ([event(ts=20 * MINUTE, track="x", session=-1, response=NEUTRAL)], {("a", "b")}),
        ([event(ts=20 * MINUTE, track="x", session=-1, response=IMPRESSION)], {("a", "b")}),
        ([event(ts=20 * MINUTE, track="x", session=-1, response=NEGATIVE)], {("a", "b")}),
        ([event(user=2, ts=20 * MINUTE, track="x", session=-1, response=NEUTRAL)], set()),
        ([event(ts=20 * MINUTE, track="x", session=7, response=NEUTRAL)], set()),
    ],
    ids=["nothing", "heard", "shown", "refused", "of another user", "of a named session"],
)
def test_any_event_keeps_a_session_open_not_positive_ones_only(between, found):
    likes = [event(ts=ts * MINUTE, track=track, session=-1) for track, ts in (("a", 0), ("b", 40))]
    assert pairs(likes + between) == found
    assert counted(likes + between)[1]["baskets"] == 2 - len(found)


def test_a_response_that_is_thinned_out_keeps_its_session_open():
    likes = [event(ts=ts * MINUTE, track=f"t{ts:03}", session=-1) for ts in range(0, 600, 20)]
    _, funnel = counted(likes, limits={0: 2})
    assert (funnel["baskets"], funnel["heavy_user_days"]) == (1, 1)


def test_a_heavy_user_counts_as_much_as_the_limit_or_not_at_all():
    events = [event(user=user, track=f"t{n}", ts=n) for user, songs in ((1, 2), (2, 2), (3, 9)) for n in range(songs)]
    limits = day_limits(activity(part_of(events).events), 60)
    for heavy_users, found in (("downweight", 6), ("drop", 4)):
        rows, funnel = counted(events, limits=limits, heavy_users=heavy_users)
        assert sum(row[0] for row in rows["item"].values()) == found
        assert funnel["heavy_user_days"] == 1


def test_close_hashes_of_users_sessions_and_events_stay_apart():
    # As floats, which a null makes of integers, they would be one number.
    near = (2**62, 2**62 + 1)
    events = [event(user=user, track=track) for user in near for track in "ab"]
    assert counted(events)[0]["copreference"][0, "a", "b"][4] == near
    sessions = [event(session=session, track=track) for session, track in zip(near, "ab", strict=True)]
    assert pairs(sessions) == set()
    assert len(part_of([event(event=number) for number in near]).events.ts) == 2


def test_no_events_give_no_counts():
    found, funnel = counted([], limits={})
    assert found == {} and not funnel
    assert added_funnel([funnel_rows({"baskets": np.zeros(0, np.int64)})]).to_pylist() == []


@pytest.mark.parametrize("buckets", [1, 2, 16])
def test_buckets_are_the_same_for_both_directions_in_any_part_and_halve_by_modulo(buckets):
    tracks = [f"t{n}" for n in range(8)]
    one = part_of([event(track=track, trigger=tracks[n - 1]) for n, track in enumerate(tracks)])
    other = part_of([event(track=tracks[n - 1], trigger=track) for n, track in enumerate([*tracks, "added"])])
    found = {}
    for part in (one, other):
        counts, _ = count_events(part, PairsConfig(symmetric_sources=[]), None, np.ones(len(part.events.ts), bool))
        ids = part.songs.to_pylist()
        bucket, many_buckets = (pair_buckets(counts, part.songs, n) for n in (buckets, 64))
        assert (many_buckets % buckets == bucket).all()
        for a, b, number in zip(counts.anchor, counts.positive, bucket.tolist(), strict=True):
            assert found.setdefault(frozenset((ids[a], ids[b])), number) == number
    assert set(found.values()) == set(range(buckets))


def test_buckets_are_pinned():
    """Stored counts lie in them."""
    part = part_of([event(track=track) for track in ("a", "b", "ä")])
    counts, _ = count_events(part, PairsConfig(), None, np.ones(3, dtype=bool))
    assert len(as_dict(counts)) == 6
    assert pair_buckets(counts, part.songs, 1024).tolist() == [381, 264, 184, 146, 368, 350]
