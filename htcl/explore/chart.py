"""The map of the songs by taste, worked out in the background while the page is used already."""

from __future__ import annotations

import base64
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from htcl.explore.songs import Mask, Songs
from htcl.explore.spaces import Float32
from htcl.logs import get_logger, log, log_error
from htcl.report.catalog_map import OTHER
from htcl.report.projection import MAX_POINTS, project_2d

FULL = 65_535
"""Coordinates go from 0 to this, as unsigned 16-bit numbers."""


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
            self._told = self._tell(_scaled(project_2d(self._vectors[self.rows], seed=0)))
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
            "legend": legend(colours, self._colours),
            "of": len(self._songs),
        }


def legend(colours: Sequence[int], genres: dict[str, int]) -> list[dict[str, Any]]:
    """The colours in use, with name and count, the genres first."""
    counts = np.bincount(np.array(colours, np.int64), minlength=OTHER + 1)
    names = {colour: genre for genre, colour in genres.items()} | {OTHER: "other or none"}
    return [{"colour": c, "name": names[c], "count": int(counts[c])} for c in sorted(names) if counts[c]]


def _scaled(points: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Spread over the whole range, each axis by itself, as the report does: the axes mean nothing."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1)
    share = np.where(high > low, (points - low) / span, 0.5)
    return np.asarray(np.round(share * FULL), np.uint16)


def _base64(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()
