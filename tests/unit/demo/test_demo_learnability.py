"""What can be learned from what: heard factors from the sound, none of them from the text."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from htcl.demo.factors import HEARD
from htcl.demo.listeners import song_blocks
from htcl.demo.songs import sample_songs
from htcl.demo.texts import catalog_rows

from .audio_files import read_audio

ALPHAS = np.logspace(-1, 4, 11)


def mel_filters(bands: int = 128, n_fft: int = 2048, rate: int = 16_000) -> np.ndarray:
    """Triangular mel filters, shape (n_fft / 2 + 1, bands)."""
    hz = np.linspace(0, rate / 2, n_fft // 2 + 1)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hz[:, None] - low) / (middle - low), (high - hz[:, None]) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))


def mel_statistics(waveform: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Mean and deviation over time of each band of the normalised log-mel, shape (256,)."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 2048)[::1536] * np.hanning(2048)
    db = 10 * np.log10(np.maximum(np.abs(np.fft.rfft(frames)) ** 2 @ filters, 1e-10))
    db = np.maximum(db, db.max() - 80)
    db = (db - db.mean()) / db.std()
    return np.concatenate([db.mean(axis=0), db.std(axis=0)])


@pytest.fixture(scope="module")
def sound(world, songs):
    """Songs that decode, and their statistics, shape (songs, 256)."""
    good = [song for song in songs if not song.damage]
    filters = mel_filters()
    return good, np.stack([mel_statistics(read_audio(world.root / s.audio_path), filters) for s in good])


@pytest.mark.parametrize("factor", HEARD)
def test_heard_factor_is_audible(sound, factor):
    good, features = sound
    values = np.array([getattr(song.factors, factor) for song in good])
    model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS))
    predicted = cross_val_predict(model, features, values, cv=5)
    assert np.corrcoef(predicted, values)[0, 1] > 0.75
    assert np.mean((predicted > 0) == (values > 0)) > 0.8


def test_genre_is_audible_and_scene_is_not(sound):
    good, features = sound
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
    genre = cross_val_score(model, features, [song.factors.genre for song in good], cv=4).mean()
    scene = cross_val_score(model, features, [song.factors.scene for song in good], cv=4).mean()
    assert genre > 0.45  # chance is 0.15
    assert scene < 0.35  # chance is 0.2


@pytest.mark.parametrize("factor", HEARD)
def test_heard_factor_is_not_told(factor):
    songs = sample_songs(600, seed=7)
    rows = catalog_rows(songs, seed=7)
    texts = [f"{row['title']} {row['artist']} {row['genre']} {' '.join(row['tags'])}" for row in rows]
    words = CountVectorizer(binary=True, min_df=3).fit_transform(texts).toarray()
    values = np.array([getattr(song.factors, factor) for song in songs])
    assert cross_val_score(RidgeCV(ALPHAS), words, values, scoring="r2", cv=5).mean() < 0.05


def test_told_and_heard_factors_are_independent():
    blocks = song_blocks(sample_songs(600, seed=7))
    heard = blocks.pop("heard")
    for block in blocks.values():
        correlations = heard.T @ block / len(heard)
        assert np.abs(correlations).max() < 0.15
