"""The map of the catalog as map.js reads it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from htcl.report.data import MapPoint
from htcl.web.map import OTHER, spread


def drawn(points: Sequence[MapPoint], colours: dict[str, int]) -> dict[str, list[Any]]:
    """Places, colour and words of each point."""
    places = spread(np.array([(point.x, point.y) for point in points], np.float32).reshape(-1, 2))
    return {
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "colours": [colours.get(point.genre, OTHER) for point in points],
        "songs": [
            [point.track_id, point.title, " · ".join(filter(None, (point.artist, point.genre)))] for point in points
        ],
    }
