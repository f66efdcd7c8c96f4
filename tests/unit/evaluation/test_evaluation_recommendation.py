import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.evaluation import scorers
from htcl.evaluation.metrics import RowSets
from htcl.evaluation.recommendation import Queries, evaluate_song_to_song
from htcl.evaluation.scorers import embedding_scorer, popularity_scorer, random_scorer


def row_sets(sets):
    indptr = np.concatenate([[0], np.cumsum([len(s) for s in sets])]).astype(np.int64)
    return RowSets(indptr, np.array([row for s in sets for row in s], np.int64))


def queries(n, anchors, relevant, excluded=None, withheld=()):
    excluded = [[] for _ in anchors] if excluded is None else excluded
    offered = ~np.isin(np.arange(n), withheld)
    return Queries(offered, np.array(anchors, np.int64), row_sets(relevant), row_sets(excluded))


def random_queries(rng, n, count):
    anchors, relevant, excluded = [], [], []
    for anchor in rng.choice(n, count, replace=False):
        others = rng.permutation(np.delete(np.arange(n), anchor))
        size = rng.integers(1, 6)
        anchors.append(anchor)
        relevant.append(others[:size])
        excluded.append(others[size : size + rng.integers(0, 5)])
    return queries(n, anchors, relevant, excluded)


def naive(scores, wanted):
    """The metrics from sorted Python lists; valid without ties."""
    rows = []
    for q, anchor in enumerate(wanted.anchors):
        hidden = {int(anchor), *wanted.excluded.part(q, q + 1).indices.tolist()}
        relevant = set(wanted.relevant.part(q, q + 1).indices.tolist())
        offered = [row for row in range(wanted.n_candidates) if row not in hidden]
        hits = [row in relevant for row in sorted(offered, key=lambda row: -scores[anchor, row])]
        gain = sum(1 / np.log2(place + 2) for place, hit in enumerate(hits[:10]) if hit)
        ideal = sum(1 / np.log2(place + 2) for place in range(min(10, len(relevant))))
        recalls = [sum(hits[:k]) / len(relevant) for k in (10, 50)]
        rows.append((*recalls, gain / ideal, 1 / (hits.index(True) + 1)))
    return dict(zip(("recall_at_10", "recall_at_50", "ndcg_at_10", "mrr"), np.array(rows).T, strict=True))


@given(st.integers(0, 10_000))
@settings(max_examples=15)
def test_equals_the_naive_implementation(seed):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(70, dtype=np.float32), (70, 1)), axis=1)
    wanted = random_queries(rng, 70, 12)
    found = evaluate_song_to_song("stage2", lambda rows: scores[rows], wanted)
    for metric, values in naive(scores, wanted).items():
        np.testing.assert_allclose(found[metric], values, err_msg=metric)


def test_embeddings_are_scored_by_cosine():
    vectors = np.random.default_rng(0).normal(size=(20, 5))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.array([7, 2])
    np.testing.assert_allclose(embedding_scorer(vectors)(rows), unit[rows] @ unit.T, atol=2e-6)


def test_hand_computed():
    # Popularity ranks 4, 3, 2, 1, 0. Anchor 4 is left out, 3 excluded: row 2 comes first, row 0 third.
    wanted = queries(5, [4], [[0, 2]], [[3]])
    found = evaluate_song_to_song("popularity", popularity_scorer(np.arange(5)), wanted)
    assert found["mrr"].tolist() == [1]
    assert found["recall_at_10"].tolist() == found["recall_at_50"].tolist() == [1]
    np.testing.assert_allclose(found["ndcg_at_10"], (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3)))


def test_songs_that_are_not_on_offer_stand_in_nobodys_way():
    wanted = queries(5, [4], [[0]], withheld=[2, 3])
    found = evaluate_song_to_song("popularity", popularity_scorer(np.arange(5)), wanted)
    assert found["mrr"].tolist() == [1 / 2]


@pytest.mark.parametrize("build", [lambda n: random_scorer(n, seed=1), lambda n: popularity_scorer(np.ones(n))])
def test_the_block_size_changes_nothing(monkeypatch, build):
    wanted = random_queries(np.random.default_rng(0), 40, 20)
    whole = evaluate_song_to_song("any", build(40), wanted)
    monkeypatch.setattr(scorers, "BLOCK_SCORES", 3 * 40)
    for metric, values in evaluate_song_to_song("any", build(40), wanted).items():
        np.testing.assert_array_equal(values, whole[metric])


def test_random_scores_are_at_chance():
    n = 500
    rng = np.random.default_rng(0)
    found = evaluate_song_to_song("random", random_scorer(n), random_queries(rng, n, 400))
    assert found["recall_at_50"].mean() == pytest.approx(50 / n, abs=0.03)


def test_popularity_of_unheard_songs_is_exactly_chance():
    n = 101
    wanted = queries(n, [0], [[5, 6]])
    found = evaluate_song_to_song("popularity", popularity_scorer(np.zeros(n)), wanted)
    np.testing.assert_allclose(found["recall_at_10"], 10 / 100)


def test_a_scorer_with_nan_or_of_another_catalog_names_the_system():
    wanted = queries(3, [0], [[1]])
    with pytest.raises(ValueError, match=r"'popularity'.*candidate row 2 for query row 0 is nan"):
        evaluate_song_to_song("popularity", popularity_scorer([1, 2, np.nan]), wanted)
    with pytest.raises(ValueError, match=r"'text'.*shape \(1, 4\)"):
        evaluate_song_to_song("text", random_scorer(4), wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, [], []), "no queries"),
        ((3, [0], [[]]), "no relevant row"),
        ((3, [0], [[1, 1]]), "twice"),
        ((3, [0], [[0]]), "row 0 is relevant for anchor row 0 and not offered"),
        ((3, [0], [[1, 2]], [[2]]), "row 2 is relevant for anchor row 0 and not offered"),
        ((3, [0], [[1]], None, [1]), "row 1 is relevant for anchor row 0 and not offered"),
        ((3, [0], [[3]]), "from 0 to 3, the catalog has 3"),
        ((3, [0], [[1], [2]]), "2 sets for 1 anchors"),
    ],
)
def test_queries_that_would_mislead_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        queries(*arguments)
