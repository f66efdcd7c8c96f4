"""What the catalog says of the songs: filters with their counts, names that begin like this, one song's lines."""

from __future__ import annotations

import difflib
import unicodedata
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from htcl.explore.refusal import Refusal

Mask = npt.NDArray[np.bool_]

COLUMNS = ["track_id", "title", "artist", "album", "genre", "language", "tags", "release_date", "audio_path"]
_NAMES_LOOKED_AT = 100_000
_MATCHES_SORTED = 1000


class Filters(BaseModel):
    """What a song must be; an empty value lets every song pass."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    genre: str = Field("", max_length=200)
    language: str = Field("", max_length=200)
    artist: str = Field("", max_length=200, description="part of the name")
    tag: str = Field("", max_length=200, description="part of one of the tags")
    year_from: int | None = None
    year_to: int | None = None


@dataclass(frozen=True)
class Song:
    """What the page shows of a song; what the catalog does not have is empty."""

    track_id: str
    title: str
    artist: str
    album: str
    genre: str
    language: str
    tags: tuple[str, ...]
    year: int | None


class Choices:
    """A column of few different values; `codes` [n] has a number for each song, -1 where it has none."""

    def __init__(self, column: pa.Array) -> None:
        encoded = pc.dictionary_encode(pc.if_else(pc.equal(column, ""), None, column))
        self.values: list[str] = encoded.dictionary.to_pylist()
        self.codes: npt.NDArray[np.int32] = np.asarray(pc.fill_null(encoded.indices, -1), np.int32)

    def of(self, value: str) -> Mask:
        """Which songs have this value."""
        code = self.values.index(value) if value in self.values else -2
        return np.asarray(self.codes == code)

    def counts(self, fits: Mask) -> dict[str, int]:
        """How many of some songs have each value, the most frequent first."""
        found = np.bincount(self.codes[fits & (self.codes >= 0)], minlength=len(self.values))
        order = sorted(range(len(found)), key=lambda code: (-found[code], self.values[code]))
        return {self.values[code]: int(found[code]) for code in order}


class Songs:
    """The songs of the published set, one a row, in the order of their embeddings."""

    def __init__(self, catalog: pa.Table) -> None:
        """Take rows with the columns of `COLUMNS`."""
        self._table = catalog.select(COLUMNS).combine_chunks()
        self.tracks: list[str] = self._column("track_id").to_pylist()
        self._rows = {track: row for row, track in enumerate(self.tracks)}
        self.genres, self.languages = Choices(self._column("genre")), Choices(self._column("language"))
        self.years = np.array([year_of(date) or 0 for date in self._column("release_date").to_pylist()], np.int64)
        self._artists, self._titles = _folded(self._column("artist")), _folded(self._column("title"))
        self._names = pc.binary_join_element_wise(self._titles, self._artists, "\n")
        tags = pc.fill_null(self._column("tags"), pa.scalar([], self._column("tags").type))
        self._tags, self._tag_rows = pc.list_flatten(tags), pc.list_parent_indices(tags).to_numpy()
        self._folded_tags = _folded(self._tags)

    def __len__(self) -> int:
        return len(self.tracks)

    def row(self, track_id: str) -> int:
        """The row of a song.

        Raises:
            Refusal: naming the nearest id, when there is no such song.
        """
        row = self._rows.get(track_id)
        if row is None:
            close = difflib.get_close_matches(track_id, self.tracks[:_NAMES_LOOKED_AT], n=1)
            hint = f" Did you mean “{close[0]}”?" if close else ""
            raise Refusal(f"There is no song “{track_id}” in the published set.{hint}", 404)
        return row

    def song(self, row: int) -> Song:
        """What the catalog says of one song."""
        found = self._table.slice(row, 1).to_pylist()[0]
        return Song(
            track_id=found["track_id"],
            title=found["title"],
            artist=found["artist"] or "",
            album=found["album"] or "",
            genre=found["genre"] or "",
            language=found["language"] or "",
            tags=tuple(found["tags"] or ()),
            year=int(self.years[row]) or None,
        )

    def audio_path(self, row: int) -> str:
        """Where a song's file lies below the audio root, as the catalog has it."""
        return str(self._column("audio_path")[row].as_py())

    def mask(self, filters: Filters, without: Literal["", "genre", "language"] = "") -> Mask:
        """Which songs pass [n]; `without` leaves one of the filters out, to count what it could be set to."""
        fits = np.ones(len(self), np.bool_)
        if filters.genre and without != "genre":
            fits &= self.genres.of(filters.genre)
        if filters.language and without != "language":
            fits &= self.languages.of(filters.language)
        if filters.artist.strip():
            fits &= _contains(self._artists, filters.artist)
        if filters.tag.strip():
            tagged = np.zeros(len(self), np.bool_)
            tagged[self._tag_rows[_contains(self._folded_tags, filters.tag)]] = True
            fits &= tagged
        if filters.year_from is not None:
            fits &= (self.years >= filters.year_from) & (self.years > 0)
        if filters.year_to is not None:
            fits &= (self.years <= filters.year_to) & (self.years > 0)
        return fits

    def suggest(self, text: str, k: int) -> list[Song]:
        """Songs whose title and artist hold all these words, those first that begin so."""
        words = fold(text).split()
        if not words:
            return []
        fits = np.ones(len(self), np.bool_)
        for word in words:
            fits &= _contains(self._names, word)
        start = " ".join(words)
        titles, artists = (_begins(column, start) for column in (self._titles, self._artists))
        ranks = 2 * ~titles + ~artists  # what begins so comes first, by title before by artist
        found: list[int] = []
        for rank in range(4):
            rows = _first(fits & (ranks == rank), _MATCHES_SORTED)
            found += sorted(rows, key=lambda row: (self._titles[row].as_py(), self._artists[row].as_py(), row))
            if len(found) >= k:
                break
        return [self.song(row) for row in found[:k]]

    def top_tags(self, k: int) -> list[str]:
        """The most frequent tags."""
        counts = Choices(self._tags).counts(np.ones(len(self._tags), np.bool_))
        return list(counts)[:k]

    def year_range(self) -> tuple[int, int] | None:
        """First and last year of release; None where the catalog has none."""
        known = self.years[self.years > 0]
        return (int(known.min()), int(known.max())) if len(known) else None

    def _column(self, name: str) -> pa.Array:
        column = self._table[name]
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def fold(text: str) -> str:
    """Text for comparison: no capitals, no accents."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def year_of(date: str | None) -> int | None:
    """The year of an ISO date, or of a year; None for anything else."""
    year = (date or "")[:4]
    return int(year) if len(year) == 4 and year.isascii() and year.isdecimal() else None


def _folded(column: pa.Array) -> pa.Array:
    return pa.array([fold(text or "") for text in column.to_pylist()], pa.string())


def _contains(folded: pa.Array, text: str) -> Mask:
    return np.asarray(pc.match_substring(folded, fold(text.strip())).to_numpy(zero_copy_only=False), np.bool_)


def _begins(folded: pa.Array, text: str) -> Mask:
    return np.asarray(pc.starts_with(folded, text).to_numpy(zero_copy_only=False), np.bool_)


def _first(fits: Mask, k: int) -> list[int]:
    return [int(row) for row in np.flatnonzero(fits)[:k]]
