import numpy as np
import pytest

from htcl.evaluation.collapse import effective_rank, mean_cosine, rows_without_direction

RNG = np.random.default_rng(0)


def test_effective_rank_counts_the_directions_in_use():
    assert effective_rank(np.eye(6)) == pytest.approx(6, rel=1e-5)
    assert effective_rank(np.ones((20, 6))) == pytest.approx(1, rel=1e-2)
    low = RNG.normal(size=(500, 3)) @ RNG.normal(size=(3, 50))
    assert effective_rank(low) < 3.01
    assert effective_rank(RNG.normal(size=(500, 50))) > 45


def test_the_length_of_a_vector_does_not_count():
    vectors = RNG.normal(size=(30, 8))
    scaled = vectors * RNG.uniform(0.1, 10, size=(30, 1))
    assert effective_rank(scaled) == pytest.approx(effective_rank(vectors), rel=1e-4)
    assert mean_cosine(scaled) == pytest.approx(mean_cosine(vectors), abs=1e-6)


def test_mean_cosine_equals_the_mean_over_pairs():
    vectors = RNG.normal(loc=0.5, size=(20, 5))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [unit[i] @ unit[j] for i in range(20) for j in range(20) if i != j]
    assert mean_cosine(vectors) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert mean_cosine(np.eye(4)) == pytest.approx(0, abs=1e-6)


def test_rows_without_a_direction_are_counted_and_refused():
    vectors = np.array([[1, 0], [0, 0], [np.nan, 1], [np.inf, 1]])
    assert rows_without_direction(vectors) == 3
    for measure in (effective_rank, mean_cosine):
        with pytest.raises(ValueError, match="3 embeddings are zero"):
            measure(vectors)
    with pytest.raises(ValueError, match="no pairs"):
        mean_cosine(vectors[:1])
