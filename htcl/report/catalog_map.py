"""The map of the catalog: where each song is drawn and in which colour."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from htcl.report.charts import position
from htcl.report.data import MapPoint

OTHER = 7  # the seven chromatic colours of Okabe and Ito go to the largest genres, grey to all others
MARGIN = 3.0  # percent of the picture left free on each side


@dataclass(frozen=True)
class Dot:
    """A song in percent of the picture."""

    point: MapPoint
    x: float
    y: float
    colour: int


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


def dots(points: Sequence[MapPoint], colours: dict[str, int]) -> list[Dot]:
    """The points spread over the picture, in their own order, so that no genre covers another."""
    if not points:
        return []
    xs, ys = [point.x for point in points], [point.y for point in points]
    x_range, y_range = (min(xs), max(xs)), (min(ys), max(ys))
    return [
        Dot(
            point,
            _inside(position(point.x, *x_range)),
            _inside(position(point.y, *y_range)),
            colours.get(point.genre, OTHER),
        )
        for point in points
    ]


def legend(points: Sequence[MapPoint], colours: dict[str, int]) -> list[Genre]:
    """The coloured genres by size, then all others in one entry."""
    counts = Counter(colours.get(point.genre, OTHER) for point in points)
    entries = [Genre(genre, counts[colour], colour) for genre, colour in colours.items() if counts[colour]]
    return entries + ([Genre("other or none", counts[OTHER], OTHER)] if counts[OTHER] else [])


def _inside(percent: float) -> float:
    return round(MARGIN + percent * (1 - 2 * MARGIN / 100), 2)
