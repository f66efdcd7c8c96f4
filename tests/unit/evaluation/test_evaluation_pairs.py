"""Held-out pairs as queries: who asks, what is right, and what is not offered."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.evaluation.pairs import held_out_queries

TRACKS = ["a", "b", "c", "d", "x", "y"]
SIDES = np.array(["train", "train", "train", "validation", "test", "test"])


def write(folder, pairs):
    """Write (anchor, positive, split) in two files, as Spark may."""
    (folder / "pairs").mkdir(parents=True)
    names = ("anchor_id", "positive_id", "split")
    schema = pa.schema([(name, pa.string()) for name in names])
    for number in range(2):
        rows = [dict(zip(names, pair, strict=True)) for pair in pairs[number::2]]
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / "pairs" / f"part-{number}.parquet")
    (folder / "known").mkdir()
    known = sorted({tuple(sorted(pair[:2])) for pair in pairs if pair[2] == "train"})
    rows = [dict(zip(names[:2], pair, strict=True)) for pair in known]
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(schema)[:2])), folder / "known" / "part-0.parquet")
    return folder


def as_dict(queries):
    """Anchor -> (relevant songs, songs not offered)."""
    if queries is None:
        return {}
    return {
        TRACKS[anchor]: tuple(
            "".join(TRACKS[row] for row in sets.part(number, number + 1).indices)
            for sets in (queries.relevant, queries.excluded)
        )
        for number, anchor in enumerate(queries.anchors)
    }


@pytest.fixture
def found(tmp_path):
    def of(split, pairs):
        return as_dict(held_out_queries(write(tmp_path, pairs), split, TRACKS, SIDES))

    return of


PAIRS = [
    ("x", "a", "test_cold"),
    ("x", "y", "test_cold"),
    ("a", "x", "test_cold"),
    ("x", "a", "test_cold"),
    ("x", "unknown", "test_cold"),
    ("c", "a", "test_warm"),
    ("a", "c", "test_warm"),
    ("a", "b", "train"),
    ("b", "a", "train"),
    ("a", "unknown", "train"),
    ("d", "a", "validation"),
]


def test_cold_anchors_are_held_out_and_all_their_positives_count_once(found):
    assert found("cold", PAIRS) == {"x": ("ay", "")}


def test_validation_anchors_have_queries_of_their_own(found):
    assert found("validation", PAIRS) == {"d": ("a", "")}


def test_warm_anchors_are_not_offered_their_training_positives(found):
    assert found("warm", PAIRS) == {"a": ("c", "b"), "c": ("a", "")}


@pytest.mark.parametrize("split", ["cold", "warm"])
@pytest.mark.parametrize("pairs", [[], [("a", "b", "train")], [("gone", "a", "test_warm"), ("gone", "a", "test_cold")]])
def test_a_split_without_pairs_has_no_queries(found, split, pairs):
    assert found(split, pairs) == {}


def test_a_held_out_pair_that_was_trained_on_is_an_error(found):
    with pytest.raises(ValueError, match="take training pairs out of the held-out ones"):
        found("warm", [("a", "b", "test_warm"), ("a", "b", "train")])


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["ab", "ac", "bc", "ax", "cx"]), st.tuples(st.booleans(), st.booleans())))
def test_warm_queries_equal_the_naive_selection(tmp_path_factory, pairs):
    """An unordered pair is warm or known, and is written in one direction or the other."""
    rows = [((a, b) if ordered else (b, a), warm) for (a, b), (warm, ordered) in pairs.items()]
    folder = write(tmp_path_factory.mktemp("artifact"), [(*p, "test_warm" if warm else "train") for p, warm in rows])
    expected = {}
    for anchor in {p[0] for p, warm in rows if warm and "x" not in p}:
        relevant = sorted(p[1] for p, warm in rows if warm and p[0] == anchor and p[1] != "x")
        known = sorted(p[p[0] == anchor] for p, warm in rows if not warm and anchor in p)
        expected[anchor] = ("".join(relevant), "".join(known))
    assert as_dict(held_out_queries(folder, "warm", TRACKS, SIDES)) == expected
