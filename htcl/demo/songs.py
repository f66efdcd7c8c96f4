"""The songs of a world: artists with their songs, covers of one composition, release dates, file formats."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from htcl.demo.factors import GENRES, HEARD, Factors, rng_for, sample_factors, sample_heard, sample_instrument

LAST_DAY = date(2025, 3, 31)
DAYS = 45
FIRST_DAY = LAST_DAY - timedelta(days=DAYS - 1)
OTHER_FORMATS = ("mp3", "ogg", "opus", "m4a", "wav")
LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "ja")


@dataclass(frozen=True)
class Artist:
    """An artist: mostly one genre, one language of titles."""

    index: int
    genre: str
    language: str


@dataclass(frozen=True)
class Song:
    """One song with its ground truth. Songs with equal `composition` are versions of one piece."""

    index: int
    artist: Artist
    factors: Factors
    composition: int
    versions: int
    duration_s: float
    popularity: float  # weight of being met by chance, 1 for the most popular song
    release: date
    extension: str
    damage: str | None = None  # "truncated", "not_audio" or None

    @property
    def track_id(self) -> str:
        """The id in catalog and log."""
        return f"T{self.index:06d}"

    @property
    def audio_path(self) -> str:
        """The audio file, relative to the world's root."""
        return f"audio/{self.index % 100:02d}/{self.track_id}.{self.extension}"

    @property
    def split_group(self) -> str | None:
        """The group that no split may cut; null for every tenth song that has no other version."""
        if self.versions == 1 and self.composition % 10 == 3:
            return None
        return f"G{self.composition:06d}"


def sample_songs(count: int, seed: int) -> list[Song]:
    """The songs of a world, ordered by index; a function of its arguments."""
    rng = rng_for(seed, "songs")
    heard = sample_heard(rng, count)
    # Zipf's law with Mandelbrot's offset: no single song is in every session.
    popularity = (1 + rng.permutation(count) / 4) ** -0.5
    artists = list(_artists(rng, count))
    songs = []
    for index, artist in enumerate(artists):
        genre = artist.genre if rng.random() < 0.85 else str(rng.choice(list(GENRES)))
        song = Song(
            index=index,
            artist=artist,
            factors=sample_factors(rng, genre, heard[index]),
            composition=index,
            versions=1,
            duration_s=round(float(rng.uniform(14, 24)), 1),
            popularity=float(popularity[index]),
            release=_release(rng),
            extension=OTHER_FORMATS[index // 15 % len(OTHER_FORMATS)] if index % 15 == 7 else "flac",
        )
        songs.append(song)
    return _damage(_cover(songs, rng))


def _artists(rng: np.random.Generator, count: int) -> Iterator[Artist]:
    """The artist of each of `count` songs: runs of three to six songs."""
    songs_left = 0
    artist = -1
    for _ in range(count):
        if songs_left == 0:
            artist, songs_left = artist + 1, int(rng.integers(3, 7))
            # Every genre occurs even in the smallest world.
            genre = list(GENRES)[artist % len(GENRES)]
            language = str(rng.choice(LANGUAGES, p=(0.46, 0.09, 0.09, 0.09, 0.09, 0.09, 0.09)))
            current = Artist(artist, genre, language)
        songs_left -= 1
        yield current


def _release(rng: np.random.Generator) -> date:
    """One song in ten comes out while the log runs, the others in the ten years before."""
    if rng.random() < 0.1:
        return FIRST_DAY + timedelta(days=int(rng.integers(1, DAYS)))
    return FIRST_DAY - timedelta(days=int(rng.integers(1, 3650)))


def _cover(songs: list[Song], rng: np.random.Generator) -> list[Song]:
    """Turn about one song in 25 into a cover of an earlier one: the same piece on another instrument."""
    songs = list(songs)
    originals = rng.choice(len(songs) // 2, size=max(2, len(songs) // 40), replace=False)
    later = iter(len(songs) // 2 + rng.permutation(len(songs) - len(songs) // 2))
    for original in (songs[i] for i in originals):
        versions = int(rng.integers(2, 4))
        instrument = original.factors.instrument
        for cover in (songs[next(later)] for _ in range(versions - 1)):
            instrument = sample_instrument(rng, original.factors.genre, without=instrument)
            own = {name: getattr(cover.factors, name) for name in (*HEARD, "scene")}
            bpm = round(original.factors.bpm * float(rng.uniform(0.93, 1.07)), 1)
            factors = replace(original.factors, instrument=instrument, bpm=bpm, **own)
            songs[cover.index] = replace(cover, factors=factors, composition=original.index, versions=versions)
        songs[original.index] = replace(original, versions=versions)
    return songs


def _damage(songs: list[Song]) -> list[Song]:
    """Mark the two songs whose audio is bad on purpose; index 0 modulo 15 is always FLAC."""
    third = len(songs) // 3
    damage = {third - third % 15: "truncated", 2 * third - 2 * third % 15: "not_audio"}
    return [replace(song, damage=damage.get(song.index)) for song in songs]
