"""Listeners and their taste: how much each of them likes each song."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from htcl.demo.factors import GENRES, HEARD, INSTRUMENTS, MOODS, SCENES, rng_for
from htcl.demo.songs import Song

Array = NDArray[np.float64]

# Name of a block of columns -> its share of the variance of taste. Told and heard weigh the same.
SHARES = {"genre": 0.21, "instrument": 0.105, "mood": 0.105, "heard": 0.42, "scene": 0.16}
_VALUES = {"genre": tuple(GENRES), "instrument": INSTRUMENTS, "mood": tuple(MOODS), "scene": SCENES}


@dataclass(frozen=True)
class Listeners:
    """Taste of all listeners. `tastes[block]` has shape (listeners, columns of the block)."""

    tastes: dict[str, Array]
    sessions_per_day: Array
    sends_session_id: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.sessions_per_day)


def user_id(index: int) -> str:
    """The id of a listener in the log."""
    return f"u{index:05d}"


def song_blocks(songs: list[Song]) -> dict[str, Array]:
    """The factors of the songs as numbers: one standardised block of columns for each entry of SHARES."""
    blocks: dict[str, Array] = {"heard": np.array([[getattr(s.factors, f) for f in HEARD] for s in songs])}
    for name, values in _VALUES.items():
        # A value that is missing in a small world keeps its column, of zeros.
        blocks[name] = np.array([[getattr(s.factors, name) == value for value in values] for s in songs], float)
    return {name: _standardise(blocks[name], axis=0) for name in SHARES}


def _standardise(values: Array, axis: int) -> Array:
    centred = values - values.mean(axis=axis, keepdims=True)
    scale = centred.std(axis=axis, keepdims=True)
    return np.asarray(centred / np.where(scale > 0, scale, 1))


def sample_listeners(count: int, seed: int) -> Listeners:
    """Listeners with independent tastes; a function of its arguments."""
    rng = rng_for(seed, "listeners")
    widths = {"heard": len(HEARD)} | {name: len(values) for name, values in _VALUES.items()}
    return Listeners(
        tastes={name: rng.standard_normal((count, widths[name])) for name in SHARES},
        sessions_per_day=np.clip(rng.lognormal(0, 0.5, count), 0.2, 3.0),
        sends_session_id=rng.random(count) > 0.05,
    )


def affinity(listeners: Listeners, songs: list[Song]) -> Array:
    """How much each listener likes each song, shape (listeners, songs): mean 0, deviation 1 per listener."""
    blocks = song_blocks(songs)
    total = np.zeros((len(listeners), len(songs)))
    for name, share in SHARES.items():
        total += np.sqrt(share) * _standardise(listeners.tastes[name] @ blocks[name].T, axis=1)
    return _standardise(total, axis=1)


def similarity(songs: list[Song]) -> Array:
    """Cosine similarity of the songs over all factors, hidden ones too; shape (songs, songs)."""
    blocks = song_blocks(songs)
    vectors = np.hstack([np.sqrt(share / blocks[name].shape[1]) * blocks[name] for name, share in SHARES.items()])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors @ vectors.T)
