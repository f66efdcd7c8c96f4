"""The map of the catalog: where each song is drawn and in which colour."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from htcl.report.charts import position
from htcl.report.data import MapPoint

OTHER = 7  # the seven chromatic colours of Okabe and Ito go to the largest genres, grey to all others
FULL = 65_535
"""The far end of an axis in map.js."""


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


def drawn(points: Sequence[MapPoint], colours: dict[str, int]) -> dict[str, list[Any]]:
    """What map.js reads: places from 0 to FULL, each axis filled, y downwards; colour and words of each."""
    xs, ys = ([getattr(point, axis) for point in points] for axis in ("x", "y"))
    return {
        "x": [round(FULL / 100 * position(x, min(xs), max(xs))) for x in xs],
        "y": [round(FULL / 100 * position(y, min(ys), max(ys))) for y in ys],
        "colours": [colours.get(point.genre, OTHER) for point in points],
        "songs": [
            [point.track_id, point.title, " · ".join(filter(None, (point.artist, point.genre)))] for point in points
        ],
    }


def legend(points: Sequence[MapPoint], colours: dict[str, int]) -> list[Genre]:
    """The coloured genres by size, then all others in one entry."""
    counts = Counter(colours.get(point.genre, OTHER) for point in points)
    entries = [Genre(genre, counts[colour], colour) for genre, colour in colours.items() if counts[colour]]
    return entries + ([Genre("other or none", counts[OTHER], OTHER)] if counts[OTHER] else [])
