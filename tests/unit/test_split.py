from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from htcl.config import SplitConfig
from htcl.split import split_of

GROUPS = [f"group{n}" for n in range(4000)]


def test_the_shares_are_kept():
    counts = Counter(split_of(g, SplitConfig(test_share=0.2, validation_share=0.1)) for g in GROUPS)
    assert abs(counts["test"] / len(GROUPS) - 0.2) < 0.03
    assert abs(counts["validation"] / len(GROUPS) - 0.1) < 0.02


@given(st.text(st.characters(codec="utf-8")), st.floats(0, 0.4), st.floats(0, 0.4))
def test_a_larger_test_share_only_moves_groups_into_the_test_side(group, share, more):
    if split_of(group, SplitConfig(test_share=share)) == "test":
        assert split_of(group, SplitConfig(test_share=share + more)) == "test"


def test_no_share_leaves_everything_to_training_and_the_seed_moves_groups():
    none = SplitConfig(test_share=0, validation_share=0)
    assert {split_of(g, none) for g in GROUPS} == {"train"}
    sides = [[split_of(g, SplitConfig(seed=seed)) for g in GROUPS] for seed in (1, 2)]
    assert sides[0] != sides[1]


def test_the_side_of_a_group_is_the_same_in_every_release():
    assert [split_of(g, SplitConfig(test_share=0.4, validation_share=0.2)) for g in GROUPS[:6]] == [
        "train",
        "validation",
        "train",
        "train",
        "validation",
        "test",
    ]


def test_a_held_out_artist_is_held_out_whatever_the_group_and_others_stay_where_they_are():
    some = SplitConfig(test_share=0.1, validation_share=0.1, test_artist_share=0.3)
    sides = {artist: {split_of(g, some, artist) for g in GROUPS[:200]} for artist in map(str, range(400))}
    held_out = [artist for artist, found in sides.items() if found == {"test"}]
    assert abs(len(held_out) / len(sides) - 0.3) < 0.07
    for artist in set(sides) - set(held_out):
        assert [split_of(g, some, artist) for g in GROUPS[:50]] == [split_of(g, some) for g in GROUPS[:50]]


def test_songs_without_an_artist_go_by_their_group():
    everyone = SplitConfig(test_share=0, validation_share=0, test_artist_share=0.99)
    assert {split_of(g, everyone, None) for g in GROUPS} == {split_of(g, everyone, "") for g in GROUPS} == {"train"}
