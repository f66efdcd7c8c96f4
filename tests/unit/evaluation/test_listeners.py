"""Songs for listeners: who is asked what, and how lists are judged."""

import numpy as np
import pytest

from htcl.evaluation.histories import Histories, last_songs
from htcl.evaluation.listeners import catalog_coverage, evaluate_listeners, listener_queries
from htcl.evaluation.metrics import RowSets
from htcl.evaluation.scorers import embedding_scorer, popularity_scorer

KNOWN = np.array([True, True, True, True, False, False])
COLD = ~KNOWN


def histories(*rows):
    """Rows (listener, song, moment)."""
    listener, song, ts = (
        np.array(column, np.int64) for column in zip(*sorted(rows, key=lambda r: (r[0], r[2])), strict=True)
    )
    return Histories(listener, song, ts, int(listener.max()) + 1)


def test_sets_hold_each_song_once_in_the_order_it_was_last_liked():
    sets = histories((0, 3, 1), (0, 1, 2), (0, 3, 3), (2, 5, 1), (2, 0, 9)).sets()
    assert sets.indptr.tolist() == [0, 2, 2, 4]
    assert sets.indices.tolist() == [1, 3, 5, 0]


@pytest.mark.parametrize(("count", "indices"), [(1, [1, 0]), (2, [3, 1, 5, 0]), (9, [2, 3, 1, 5, 0])])
def test_the_last_songs_of_a_history(count, indices):
    sets = RowSets(np.array([0, 3, 3, 5]), np.array([2, 3, 1, 5, 0]))
    found = last_songs(sets, count)
    assert found.indices.tolist() == indices
    assert np.diff(found.indptr).tolist() == [min(count, 3), 0, min(count, 2)]


def test_only_songs_that_are_new_to_a_listener_are_asked_for():
    log = histories(
        (0, 0, 1), (0, 1, 2), (0, 1, 11), (0, 2, 12), (1, 3, 1), (1, 3, 12), (2, 0, 12), (3, 1, 1), (3, 4, 15)
    )
    warm = listener_queries(log, 10, KNOWN, KNOWN)
    assert warm.listeners.tolist() == [0]  # 1 likes again what it knows, 2 has no history, 3 likes a cold song
    assert warm.histories.indices.tolist() == [0, 1] and warm.relevant.indices.tolist() == [2]
    cold = listener_queries(log, 10, KNOWN, COLD)
    assert cold.listeners.tolist() == [3] and cold.relevant.indices.tolist() == [4]


def test_a_history_holds_no_song_that_training_did_not_see():
    log = histories((0, 4, 1), (0, 5, 12), (1, 4, 1), (1, 0, 2), (1, 5, 12))
    cold = listener_queries(log, 10, KNOWN, COLD)
    assert cold.listeners.tolist() == [1] and cold.histories.indices.tolist() == [0]


def test_a_new_song_that_a_listener_likes_already_is_not_offered_again():
    log = histories((0, 0, 1), (0, 4, 2), (0, 5, 12))
    queries = listener_queries(log, 10, KNOWN, COLD)
    found = evaluate_listeners("x", popularity_scorer([0, 0, 0, 0, 9, 1]), queries, np.zeros(6, np.int64))
    assert found.metrics["mrr"].tolist() == [1]


def test_nobody_to_ask_is_no_query():
    assert listener_queries(histories((0, 0, 1)), 10, KNOWN, KNOWN) is None


def test_lists_are_judged_among_the_songs_on_offer_without_the_history():
    log = histories((0, 0, 1), (0, 1, 12))
    queries = listener_queries(log, 10, KNOWN, KNOWN)
    popularity = np.array([9, 1, 5, 3, 0, 0])
    found = evaluate_listeners("x", popularity_scorer([9, 1, 5, 3, 100, 100]), queries, popularity)
    # Offered and not heard: 2, 3, 1 in that order; neither the cold songs nor the history count.
    assert found.metrics["mrr"].tolist() == [pytest.approx(1 / 3)]
    assert found.metrics["hit_rate_at_10"].tolist() == [1]
    assert sorted(found.top[0, :3].tolist()) == [1, 2, 3]
    assert catalog_coverage(found.top[:, :3], queries.offered) == pytest.approx(3 / 4)


def test_average_popularity_is_that_of_the_head_of_the_list():
    n, rng = 40, np.random.default_rng(0)
    popularity = rng.integers(0, 100, n)
    log = histories((0, 0, 1), (0, 1, 12), (1, 2, 1), (1, 3, 12))
    queries = listener_queries(log, 10, np.ones(n, bool), np.ones(n, bool))
    found = evaluate_listeners("x", popularity_scorer(popularity), queries, popularity)
    expected = [np.sort(np.delete(popularity, heard))[::-1][:10].mean() for heard in (0, 2)]
    np.testing.assert_allclose(found.metrics["average_popularity"], expected)


def test_a_scorer_gets_the_place_of_a_query():
    vectors = np.eye(6, dtype=np.float32)
    log = histories((0, 0, 1), (0, 1, 12), (1, 2, 1), (1, 3, 12))
    queries = listener_queries(log, 10, KNOWN, KNOWN)
    found = evaluate_listeners("x", embedding_scorer(vectors, queries=vectors[[1, 3]]), queries, np.zeros(6, np.int64))
    assert found.metrics["mrr"].tolist() == [1, 1]
