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
