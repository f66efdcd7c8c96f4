"""The map of the songs by taste, worked out in the background while the page is used already."""

from __future__ import annotations

import base64
import threading
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from htcl.explore.songs import Mask, Songs
from htcl.explore.spaces import Float32
from htcl.logs import get_logger, log, log_error
from htcl.report.projection import MAX_POINTS, project_2d
from htcl.web.map import OTHER, legend, spread


class Chart:
    """A sample of the songs, drawn once a start; `rows` [m], ascending, says which."""

    def __init__(self, songs: Songs, vectors: Float32, colours: dict[str, int]) -> None:
        """Nothing is worked out yet.

        Args:
            songs: all of them, n.
            vectors: unit embeddings [n, d] of the space that is drawn.
            colours: number of the colour of each genre that has one.
        """
        self._songs, self._vectors, self._colours = songs, vectors, colours
        chosen = np.random.default_rng(0).permutation(len(songs))[:MAX_POINTS]
        self.rows: npt.NDArray[np.int64] = np.sort(chosen)
        self._told: dict[str, Any] | None = None

    def start(self) -> None:
        """Begin to work it out, in a thread that ends with the process."""
        threading.Thread(target=self.work_out, name="chart", daemon=True).start()

    def work_out(self) -> None:
        """Project the sample; a failure is told by `told`."""
        logger = get_logger("explore")
        try:
            self._told = self._tell(spread(project_2d(self._vectors[self.rows], seed=0)))
            log(logger, "map drawn", songs=len(self.rows))
        except Exception as error:  # the page goes on without its map
            log_error(logger, f"the map could not be drawn: {error}")
            self._told = {"failure": "The map could not be drawn; the log of this server says why."}

    def place(self, row: int) -> int | None:
        """The number of a song's point; None where it is not in the sample."""
        place = int(np.searchsorted(self.rows, row))
        return place if place < len(self.rows) and self.rows[place] == row else None

    def passing(self, fits: Mask) -> str:
        """Which points are of songs that fit, as base64 of bits, the first one lowest."""
        return _base64(np.packbits(fits[self.rows], bitorder="little"))

    def told(self) -> dict[str, Any] | None:
        """What the page draws, or a `failure`; None as long as it is being worked out."""
        return self._told

    def _tell(self, points: npt.NDArray[np.uint16]) -> dict[str, Any]:
        songs = [self._songs.song(int(row)) for row in self.rows]
        colours = [self._colours.get(song.genre, OTHER) for song in songs]
        return {
            "x": _base64(points[:, 0]),
            "y": _base64(points[:, 1]),
            "colours": colours,
            "songs": [[song.track_id, song.title, song.artist, song.genre] for song in songs],
            "legend": [asdict(genre) for genre in legend([song.genre for song in songs], self._colours)],
            "of": len(self._songs),
        }


def _base64(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()
