import numpy as np
import pytest

from htcl.report.projection import MAX_POINTS, project_2d


def embeddings(count: int, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 29, 30, 60])
def test_shape_and_repeatability(count: int) -> None:
    songs = embeddings(count)
    flat = project_2d(songs, seed=3)
    assert flat.shape == (count, 2) and flat.dtype == np.float32
    assert np.isfinite(flat).all()
    np.testing.assert_array_equal(flat, project_2d(songs, seed=3))


def test_clusters_stay_apart() -> None:
    centres = np.repeat(np.eye(3, 16, dtype=np.float32) * 20, 30, axis=0)
    flat = project_2d(embeddings(90) + centres, seed=0)
    middles = flat.reshape(3, 30, 2).mean(axis=1)
    spread = flat.reshape(3, 30, 2).std(axis=1).max()
    assert min(np.linalg.norm(middles[i] - middles[j]) for i, j in [(0, 1), (0, 2), (1, 2)]) > 2 * spread


@pytest.mark.parametrize("songs", [np.zeros((50, 8), np.float32), np.ones((50, 8), np.float32), embeddings(4, 1)])
def test_songs_without_directions_to_tell_apart(songs: np.ndarray) -> None:
    assert np.isfinite(project_2d(songs, seed=0)).all()


def test_two_songs_are_two_points() -> None:
    flat = project_2d(embeddings(2), seed=0)
    assert np.abs(flat[0] - flat[1]).max() > 0.1


def test_too_many_songs_are_refused() -> None:
    with pytest.raises(ValueError, match="sample"):
        project_2d(embeddings(MAX_POINTS + 1, 2), seed=0)
