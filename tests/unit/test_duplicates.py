"""Equal audio brings split groups together, and nothing else does."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from htcl.duplicates import group_duplicates

SIDES = {"a": "train", "b": "train", "c": "test", "d": "test", "e": "validation", "f": "train"}


def grouped(*tracks: str):
    """(group, side) of each track, given as group and sound, such as a1; and the figures."""
    groups, sounds = [t[0] for t in tracks], [t[1:] for t in tracks]
    found = group_duplicates(pa.array(groups), pa.array([SIDES[g] for g in groups]), pa.array(sounds))
    return list(zip(found.split_group.to_pylist(), found.split.to_pylist(), strict=True)), found


def test_without_duplicates_nothing_changes():
    rows, found = grouped("c1", "a2", "a3", "e4")
    assert rows == [("c", "test"), ("a", "train"), ("a", "train"), ("e", "validation")]
    assert (found.duplicates, found.merged_groups) == (0, 0)


def test_equal_audio_of_one_group_merges_nothing():
    rows, found = grouped("c1", "c1", "a2")
    assert rows == [("c", "test"), ("c", "test"), ("a", "train")]
    assert (found.duplicates, found.merged_groups) == (2, 0)


def test_groups_of_one_side_keep_it_under_the_least_name():
    rows, found = grouped("d1", "c1", "d2", "a3")
    assert rows == [("c", "test"), ("c", "test"), ("c", "test"), ("a", "train")]
    assert (found.duplicates, found.merged_groups) == (2, 1)


def test_groups_of_different_sides_leave_the_evaluation():
    rows, _ = grouped("d1", "e1", "e2", "c3")
    assert rows == [("d", "train")] * 3 + [("c", "test")]


def test_what_is_joined_over_several_steps_is_one_group():
    rows, found = grouped("a1", "b1", "b2", "f2", "c3")
    assert rows == [("a", "train")] * 4 + [("c", "test")]
    assert (found.duplicates, found.merged_groups) == (4, 1)


def test_no_tracks_are_no_groups():
    empty = pa.array([], pa.string())
    assert len(group_duplicates(empty, empty, empty).split) == 0


TRACKS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9)).map(lambda t: f"{t[0]}{t[1]}"), max_size=14)


@given(TRACKS, st.randoms())
def test_it_is_the_partition_of_a_plain_union(tracks, random):
    rows, found = grouped(*tracks)
    joined = {group: {group} for group in SIDES}
    for one in tracks:
        for other in tracks:
            if one[1:] == other[1:]:
                union = joined[one[0]] | joined[other[0]]
                joined |= dict.fromkeys(union, union)
    for track, (group, side) in zip(tracks, rows, strict=True):
        members = joined[track[0]]
        sides = {SIDES[member] for member in members}
        assert group == min(members)
        assert side == (sides.pop() if len(sides) == 1 else "train")
    assert found.duplicates == sum(len({n for n, u in enumerate(tracks) if u[1:] == t[1:]}) > 1 for t in tracks)
    assert found.merged_groups == len({min(m) for m in joined.values() if len(m) > 1})
    shuffled = random.sample(range(len(tracks)), len(tracks))
    again, _ = grouped(*(tracks[n] for n in shuffled))
    assert again == [rows[n] for n in shuffled]
