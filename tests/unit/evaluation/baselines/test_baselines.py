"""Competitors find what their idea says they should, and know nothing of songs that they cannot know."""

import numpy as np
import pytest
import scipy.io.wavfile
from scipy.sparse import csr_matrix

from htcl.card_config import AlsConfig, Bm25Config, Item2VecConfig
from htcl.errors import HTCLError
from htcl.evaluation.baselines import musicnn
from htcl.evaluation.baselines.als import UNKNOWN, Als, history_matrix, mapped_to_factors
from htcl.evaluation.baselines.bm25 import Bm25
from htcl.evaluation.baselines.item2vec import item2vec
from htcl.evaluation.baselines.mfcc import mfcc_statistics, standardised
from htcl.evaluation.baselines.optional import needed
from htcl.evaluation.histories import Histories
from htcl.evaluation.metrics import RowSets

SONGS, UNPLAYED = 21, 20
"""Two tastes: even songs and odd songs; the last one nobody has played."""


@pytest.fixture(scope="module")
def log():
    rng = np.random.default_rng(0)
    rows = [
        (listener, int(song))
        for listener in range(60)
        for song in rng.permutation(np.arange(listener % 2, UNPLAYED, 2))[:6]
    ]
    listener, song = (np.array(column) for column in zip(*rows, strict=True))
    return Histories(listener, song, np.arange(len(rows)), 60)


@pytest.fixture(scope="module")
def plays(log):
    return csr_matrix((np.ones(len(log.song), np.float32), (log.listener, log.song)), shape=(60, SONGS))


HISTORY = RowSets(np.array([0, 3, 5]), np.array([0, 2, 4, 1, 3]))
ALS = AlsConfig(factors=2, regularization=0.1, alpha=5)


def same_taste(scores, parity):
    """Share of the ten best that are of one taste."""
    return np.mean(np.argsort(-scores)[:10] % 2 == parity)


def test_als_finds_songs_and_listeners_of_one_taste(plays):
    als = Als(plays, ALS)
    assert same_taste(als.songs()(np.array([0]))[0], 0) == 1
    scores = als.listeners(HISTORY)(np.arange(2))
    assert same_taste(scores[0], 0) >= 0.8 and same_taste(scores[1], 1) >= 0.8
    assert (scores[:, UNPLAYED] == UNKNOWN).all() and (als.songs()(np.array([3]))[:, UNPLAYED] == UNKNOWN).all()


def test_als_is_the_same_each_time(plays):
    np.testing.assert_array_equal(Als(plays, ALS).factors, Als(plays, ALS).factors)


def test_content_is_mapped_to_the_factors_of_songs_that_nobody_played(plays):
    rng = np.random.default_rng(1)
    content = (np.arange(SONGS)[:, None] % 2 * np.ones(6) + 0.1 * rng.normal(size=(SONGS, 6))).astype(np.float32)
    als = Als(plays, ALS)
    mapped = mapped_to_factors(content, als, np.ones(SONGS, bool), ridge=1.0)
    unit = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
    cosine = unit @ unit[UNPLAYED]
    assert cosine[:UNPLAYED:2].min() > cosine[1:UNPLAYED:2].max()


def test_bm25_knows_who_was_played_together(plays):
    bm25 = Bm25(plays, Bm25Config(neighbours=10))
    assert same_taste(bm25.songs()(np.array([0]))[0], 0) == 1
    assert same_taste(bm25.listeners(HISTORY)(np.array([1]))[0], 1) == 1
    assert bm25.songs()(np.array([UNPLAYED])).max() == 0


def test_item2vec_puts_what_is_played_after_each_other_together(log):
    config = Item2VecConfig(size=8, window=5, epochs=60, sample=0.0, ns_exponent=0.75)
    vectors = item2vec(log, SONGS, config)
    assert (vectors[UNPLAYED] == 0).all()
    unit = vectors[:UNPLAYED] / np.linalg.norm(vectors[:UNPLAYED], axis=1, keepdims=True)
    cosine = unit @ unit.T
    alike = np.arange(UNPLAYED)[:, None] % 2 == np.arange(UNPLAYED) % 2
    assert cosine[alike].mean() > cosine[~alike].mean() + 0.3
    np.testing.assert_array_equal(vectors, item2vec(log, SONGS, config))


def test_a_history_as_a_matrix():
    assert history_matrix(HISTORY, 6).toarray().tolist() == [[1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 0]]


def test_mfcc_statistics_hear_timbre_and_change_but_not_length():
    rng = np.random.default_rng(0)
    dark = np.linspace(20, -40, 128) + rng.normal(size=(100, 128))
    bright = dark[:, ::-1]
    one, longer, other = (mfcc_statistics(mel.astype(np.float16)) for mel in (dark, np.tile(dark, (3, 1)), bright))
    assert one.shape == (120,)
    np.testing.assert_allclose(one[:20], longer[:20], atol=0.5)
    assert abs(one[1] - other[1]) > 100
    noisy = mfcc_statistics((dark + 10 * rng.normal(size=dark.shape)).astype(np.float16))
    assert noisy[60:80].mean() > 3 * one[60:80].mean()  # deviation of the first differences


def test_statistics_are_standardised_by_the_training_songs():
    rng = np.random.default_rng(0)
    values, train = rng.normal(5, 3, (50, 4)).astype(np.float32), np.arange(50) < 30
    found = standardised(values, train)
    np.testing.assert_allclose(found[train].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found[train].std(axis=0), 1, atol=1e-5)
    assert np.isfinite(standardised(np.ones((5, 2), np.float32), np.ones(5, bool))).all()


def test_a_package_that_is_not_there_is_named_with_the_way_out():
    with pytest.raises(HTCLError, match=r"no_such_package.*pip install -e '\.\[report-card\]'"):
        needed("no_such_package")


@pytest.mark.parametrize("python", ["/no/such/python", "false"])
def test_a_python_without_musicnn_is_named(python, tmp_path):
    song = tmp_path / "song.wav"
    scipy.io.wavfile.write(song, 16_000, np.arange(48_000).astype(np.int16))
    with pytest.raises(HTCLError, match=r"report_card\.musicnn_python"):
        musicnn.musicnn_vectors(python, (str(song),), 16_000, 5)
