"""What map.js draws of the songs: places, colours and the legend, for the report and for `htcl explore`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

OTHER = 7  # the seven chromatic colours of Okabe and Ito go to the largest genres, grey to all others
FULL = 65_535
"""The far end of an axis in map.js; places are unsigned 16-bit numbers."""


@dataclass(frozen=True)
class Genre:
    """An entry of the legend."""

    name: str
    count: int
    colour: int


def genre_colours(genres: Iterable[str]) -> dict[str, int]:
    """A colour for each of the most frequent genres; the genres that are left out share OTHER."""
    counts = Counter(genre for genre in genres if genre)
    ranked = sorted(counts, key=lambda genre: (-counts[genre], genre))
    return {genre: colour for colour, genre in enumerate(ranked[:OTHER])}


def legend(genres: Sequence[str], colours: dict[str, int]) -> list[Genre]:
    """The colours in use by the songs that are drawn: the coloured genres by size, then all others in one entry.

    Args:
        genres: of each song, empty where it has none.
        colours: from `genre_colours`.
    """
    counts = Counter(colours.get(genre, OTHER) for genre in genres)
    entries = [Genre(genre, counts[colour], colour) for genre, colour in colours.items() if counts[colour]]
    return entries + ([Genre("other or none", counts[OTHER], OTHER)] if counts[OTHER] else [])


def spread(points: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Places on the map [n, 2] of points [n, 2]: each axis filled by itself, since the axes mean nothing."""
    if not len(points):
        return np.zeros((0, 2), np.uint16)
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1)
    share = np.where(high > low, (points - low) / span, 0.5)
    return np.asarray(np.round(share * FULL), np.uint16)
