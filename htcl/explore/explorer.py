"""The answers of the page, without the web: a question goes in, ranked songs come out."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from htcl.explore.chart import Chart
from htcl.explore.playing import Shelf
from htcl.explore.refusal import Refusal
from htcl.explore.songs import Filters, Mask, Song, Songs
from htcl.explore.sounds import Ears, Heard
from htcl.explore.spaces import Point, Spaces

MOST_HITS = 200
MOST_WORDS = 500
"""Letters of a query; the models read some hundred tokens."""
EMPTY = "Say in a few words what you would like to hear."
SUGGESTIONS = 8
REMEMBERED_SOUNDS = 100


class Question(BaseModel):
    """What is asked.

    `browse` asks for nothing: the songs that the filters leave, in the order of their ids; without filters none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["words", "song", "sound", "browse"]
    value: str = Field("", max_length=10_000, description="the words, the track id, or the key of an uploaded sound")
    weight: float = Field(0.5, ge=0, le=1, description="0 is meaning alone, 1 taste alone")
    k: int = Field(20, ge=1, le=MOST_HITS)
    filters: Filters = Filters()


@dataclass(frozen=True)
class Hit:
    """A song that answers; without a question there are no cosines.

    Attributes:
        song: what the catalog says.
        audio: whether its file is there.
        place: number of its point on the map.
        meaning: cosine in stage 1.
        taste: cosine in stage 2.
        score: the mixture.
    """

    song: Song
    audio: bool
    place: int | None
    meaning: float | None = None
    taste: float | None = None
    score: float | None = None


@dataclass(frozen=True)
class Answer:
    """Hits, best first, and what the filters leave.

    Attributes:
        hits: at most as many as were asked for.
        about: the song that is asked about, for a question by song.
        matching: songs that pass the filters.
        genres: how many songs each genre would leave, beside the other filters.
        languages: likewise.
        passing: which points of the map pass (`Chart.passing`).
    """

    hits: list[Hit]
    about: Hit | None
    matching: int
    genres: dict[str, int]
    languages: dict[str, int]
    passing: str


@dataclass
class Explorer:
    """Everything that is open: songs, spaces, models, audio and map."""

    songs: Songs
    spaces: Spaces
    ears: Ears
    shelf: Shelf
    chart: Chart
    _sounds: OrderedDict[str, Point] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, question: Question) -> Answer:
        """Rank the songs.

        Raises:
            Refusal: when the question is empty or too long, or asks about a song or a sound that is not there.
        """
        point, about = self._asked(question)
        fits = self.songs.mask(question.filters)
        allowed = fits
        if about is not None:
            allowed = fits.copy()
            allowed[about] = False
        if point is not None:
            ranked = self.spaces.rank(point, question.weight, allowed, question.k)
            figures = zip(ranked.rows, ranked.meaning, ranked.taste, ranked.score, strict=True)
            hits = [self._hit(int(row), *map(float, cosines)) for row, *cosines in figures]
        else:
            filtered = question.filters != Filters()
            hits = [self._hit(int(row)) for row in np.flatnonzero(fits)[: question.k if filtered else 0]]
        return self._answer(question, hits, about, fits)

    def hear(self, path: str) -> tuple[str, Heard]:
        """Listen to an uploaded file; the key asks for it again, as long as it is remembered.

        Raises:
            Refusal: saying what is wrong with the file.
        """
        heard = self.ears.sound(path)
        with Path(path).open("rb") as file:
            key = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        with self._lock:
            self._sounds[key] = heard.point
            self._sounds.move_to_end(key)
            if len(self._sounds) > REMEMBERED_SOUNDS:
                self._sounds.popitem(last=False)
        return key, heard

    def suggest(self, text: str) -> Sequence[Song]:
        """Songs whose title and artist hold these words."""
        return self.songs.suggest(text[:MOST_WORDS], SUGGESTIONS)

    def hit(self, track_id: str) -> Hit:
        """One song.

        Raises:
            Refusal: when there is none of that id.
        """
        return self._hit(self.songs.row(track_id))

    def _asked(self, question: Question) -> tuple[Point | None, int | None]:
        """The point that is asked for and, where it is a song's, its row."""
        if question.kind == "browse":
            return None, None
        if question.kind == "song":
            row = self.songs.row(question.value)
            return self.spaces.point(row), row
        if question.kind == "sound":
            with self._lock:
                point = self._sounds.get(question.value)
            if point is None:
                raise Refusal("This sound is not remembered here any more; choose the file again.", 404)
            return point, None
        words = " ".join(question.value.split())
        if not words:
            raise Refusal(EMPTY)
        if len(words) > MOST_WORDS:
            raise Refusal(f"That is longer than the models read; say it in {MOST_WORDS} letters or fewer.")
        return self.ears.words(words), None

    def _answer(self, question: Question, hits: list[Hit], about: int | None, fits: Mask) -> Answer:
        songs, filters = self.songs, question.filters
        return Answer(
            hits=hits,
            about=None if about is None else self._hit(about),
            matching=int(fits.sum()),
            genres=songs.genres.counts(songs.mask(filters, without="genre")),
            languages=songs.languages.counts(songs.mask(filters, without="language")),
            passing=self.chart.passing(fits),
        )

    def _hit(
        self, row: int, meaning: float | None = None, taste: float | None = None, score: float | None = None
    ) -> Hit:
        there = self.shelf.has(self.songs.audio_path(row))
        return Hit(self.songs.song(row), there, self.chart.place(row), meaning, taste, score)
