from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.evaluation.metrics import (
    RowSets,
    expected_rank,
    hit_rate_at_k,
    joined,
    ndcg_at_k,
    one_target_each,
    ranks_of_targets,
    recall_at_k,
    recall_of_targets,
    reciprocal_rank,
)


def row_sets(*sets):
    indptr = np.concatenate([[0], np.cumsum([len(s) for s in sets])]).astype(np.int64)
    return RowSets(indptr, np.array([row for s in sets for row in s], np.int64))


def naive_metrics(row, relevant, k):
    """Recall, nDCG, reciprocal rank and hit rate, averaged over every way to break the ties."""
    found = []
    for priority in permutations(range(len(row))):
        order = sorted(range(len(row)), key=lambda i: (-row[i], priority[i]))
        hits = [item in relevant for item in order]
        gain = sum(1 / np.log2(place + 2) for place, hit in enumerate(hits[:k]) if hit)
        ideal = sum(1 / np.log2(place + 2) for place in range(min(k, len(relevant))))
        found.append((sum(hits[:k]) / len(relevant), gain / ideal, 1 / (hits.index(True) + 1), float(any(hits[:k]))))
    return np.mean(found, axis=0)


@given(st.data())
@settings(max_examples=40)
def test_metrics_equal_the_average_over_all_tie_breaks(data):
    row = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
    relevant = data.draw(st.sets(st.integers(0, len(row) - 1), min_size=1))
    k = data.draw(st.integers(1, 6))
    ranks = ranks_of_targets(np.array([row], np.float32), row_sets(sorted(relevant)))
    found = [measure(ranks, k)[0] for measure in (recall_at_k, ndcg_at_k)]
    found += [reciprocal_rank(ranks)[0], hit_rate_at_k(ranks, k)[0]]
    np.testing.assert_allclose(found, naive_metrics(row, relevant, k), atol=1e-12)
    np.testing.assert_allclose(recall_of_targets(ranks, k).mean(), found[0])


def test_hand_computed_without_ties():
    # Ranks of the relevant rows 1 and 3: 2 and 4.
    ranks = ranks_of_targets(np.array([[0.9, 0.8, 0.7, 0.6, 0.5]], np.float32), row_sets([1, 3]))
    assert expected_rank(ranks).tolist() == [2, 4]
    assert recall_at_k(ranks, 1).tolist() == [0]
    assert recall_at_k(ranks, 3).tolist() == [0.5]
    assert reciprocal_rank(ranks).tolist() == [0.5]
    ideal = 1 + 1 / np.log2(3)
    np.testing.assert_allclose(ndcg_at_k(ranks, 3), [(1 / np.log2(3)) / ideal])
    np.testing.assert_allclose(ndcg_at_k(ranks, 1), [0])


def test_recall_divides_by_all_relevant_and_ndcg_by_the_best_possible():
    ranks = ranks_of_targets(np.array([[4, 3, 2, 1]], np.float32), row_sets([0, 1, 2]))
    np.testing.assert_allclose(recall_at_k(ranks, 2), [2 / 3])
    np.testing.assert_allclose(ndcg_at_k(ranks, 2), [1])


def test_constant_scores_are_chance_not_perfection():
    n, k = 50, 10
    ranks = ranks_of_targets(np.zeros((n, n), np.float32), one_target_each(np.arange(n)))
    np.testing.assert_allclose(recall_at_k(ranks, k), k / n)
    np.testing.assert_allclose(expected_rank(ranks), (n + 1) / 2)
    np.testing.assert_allclose(reciprocal_rank(ranks), np.sum(1 / np.arange(1, n + 1)) / n)


def test_candidates_at_minus_infinity_are_not_in_the_way():
    ranks = ranks_of_targets(np.array([[-np.inf, 0.1, -np.inf]], np.float32), row_sets([1]))
    assert expected_rank(ranks).tolist() == [1]


def test_a_query_without_targets_is_refused():
    with pytest.raises(ValueError, match="query 1 has no relevant"):
        ranks_of_targets(np.zeros((2, 3), np.float32), row_sets([0], []))


def test_a_target_with_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        ranks_of_targets(np.array([[np.nan, 1]], np.float32), row_sets([0]))


def test_some_of_the_sets_in_any_order():
    sets = row_sets([0], [], [3, 1], [2])
    found = sets.chosen(np.array([3, 1, 2]))
    assert (found.indptr.tolist(), found.indices.tolist()) == ([0, 1, 1, 3], [2, 3, 1])


def test_blocks_of_queries_join_to_the_whole():
    scores = np.random.default_rng(0).random((5, 8), np.float32)
    sets = row_sets([0, 3], [1], [2, 4, 7], [5], [6, 0])
    whole = ranks_of_targets(scores, sets)
    parts = [ranks_of_targets(scores[:2], sets.part(0, 2)), ranks_of_targets(scores[2:], sets.part(2, 5))]
    for one, other in zip(whole, joined(parts), strict=True):
        np.testing.assert_array_equal(one, other)
