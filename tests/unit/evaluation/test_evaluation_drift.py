import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.evaluation.drift import measure_drift


def unit(rng, n, d):
    vectors = rng.normal(size=(n, d))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rotation(rng, d):
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


def test_the_same_embeddings_did_not_move():
    vectors = unit(np.random.default_rng(0), 50, 8)
    drift = measure_drift(vectors, vectors)
    assert (drift.songs, drift.neighbour_overlap) == (50, 1.0)
    assert drift.moved == pytest.approx(0, abs=1e-6)
    assert drift.aligned == pytest.approx(0, abs=1e-6)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_a_rotation_moves_songs_but_leaves_no_drift(seed, d):
    rng = np.random.default_rng(seed)
    vectors = unit(rng, 60, d)
    drift = measure_drift(vectors, vectors @ rotation(rng, d))
    assert drift.aligned == pytest.approx(0, abs=1e-6)
    assert drift.neighbour_overlap > 0.99
    assert drift.moved >= drift.aligned - 1e-9


def test_unrelated_embeddings_drift_far_and_share_few_neighbours():
    rng = np.random.default_rng(1)
    drift = measure_drift(unit(rng, 400, 16), unit(rng, 400, 16))
    assert drift.aligned > 0.7
    assert drift.neighbour_overlap < 0.1


def test_more_noise_is_more_drift():
    rng = np.random.default_rng(2)
    vectors, noise = unit(rng, 200, 16), unit(rng, 200, 16)
    found = [measure_drift(vectors, vectors + share * noise).aligned for share in (0.0, 0.1, 0.5, 2.0)]
    assert found == sorted(found)


def test_spaces_of_different_width_are_compared():
    vectors = unit(np.random.default_rng(3), 30, 4)
    wider = np.pad(vectors, ((0, 0), (2, 0)))
    assert measure_drift(vectors, wider).aligned == pytest.approx(0, abs=1e-6)
    assert measure_drift(wider, vectors).neighbour_overlap == 1.0


def test_two_songs_are_enough():
    vectors = unit(np.random.default_rng(4), 2, 4)
    assert measure_drift(vectors, vectors).neighbour_overlap == 1.0
