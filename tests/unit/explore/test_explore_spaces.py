"""Ranking in a mixture of both spaces."""

import numpy as np
import pytest

from htcl.explore.spaces import Point, Spaces

ALL = np.ones(8, bool)


@pytest.mark.parametrize(("weight", "best"), [(0.0, [0, 1, 2]), (1.0, [7, 6, 5])])
def test_the_ends_of_the_slider_rank_by_one_space(spaces, weight, best):
    point = Point(spaces.meaning[0], spaces.taste[7])
    found = spaces.rank(point, weight, ALL, 3)
    assert found.rows.tolist() == best


def test_between_them_both_count_by_how_far_they_are_from_usual(spaces):
    found = spaces.rank(spaces.point(2), 0.3, ALL, 8)
    meaning, taste = spaces.meaning @ spaces.meaning[2], spaces.taste @ spaces.taste[2]
    usual = [(cosine - cosine.mean()) / cosine.std() for cosine in (meaning, taste)]
    score = 0.7 * usual[0] + 0.3 * usual[1]
    assert found.rows.tolist() == np.argsort(-score, kind="stable").tolist()
    np.testing.assert_allclose(found.meaning, meaning[found.rows], rtol=1e-6)
    np.testing.assert_allclose(found.taste, taste[found.rows], rtol=1e-6)
    np.testing.assert_allclose(found.score, score[found.rows], rtol=1e-6)


def test_a_space_whose_cosines_hardly_differ_counts_as_much_as_the_other():
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(300, 6))
    narrow = np.concatenate([0.05 * rng.normal(size=(300, 6)), np.ones((300, 1))], axis=1)
    wide, narrow = ((each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float32) for each in (wide, narrow))
    both = Spaces([str(n) for n in range(300)], wide, narrow)
    found = both.rank(both.point(0), 0.5, np.ones(300, bool), 300)
    for cosine in (found.meaning, found.taste):
        assert np.corrcoef(found.score, cosine)[0, 1] > 0.5


def test_only_allowed_songs_are_found_and_no_more_than_there_are(spaces):
    allowed = np.isin(np.arange(8), [1, 4, 6])
    assert spaces.rank(spaces.point(0), 0.0, allowed, 2).rows.tolist() == [1, 4]
    assert spaces.rank(spaces.point(0), 0.0, allowed, 50).rows.tolist() == [1, 4, 6]
    assert spaces.rank(spaces.point(0), 0.0, ~ALL, 5).rows.tolist() == []


def test_equal_songs_come_in_the_order_of_their_ids():
    same = np.tile(np.array([[1, 0]], np.float32), (6, 1))
    found = Spaces(list("abcdef"), same, same).rank(Point(same[0], same[0]), 0.5, np.ones(6, bool), 4)
    assert found.rows.tolist() == [0, 1, 2, 3]


def test_few_of_many_are_the_same_as_the_first_of_all():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    many = Spaces([str(n) for n in range(500)], vectors, vectors[::-1])
    everything = many.rank(many.point(3), 0.4, np.ones(500, bool), 500)
    np.testing.assert_array_equal(many.rank(many.point(3), 0.4, np.ones(500, bool), 7).rows, everything.rows[:7])
