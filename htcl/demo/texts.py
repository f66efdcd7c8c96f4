"""The text of a song: title, artist, album and tags, in the words people use."""

from collections.abc import Sequence

import numpy as np

from htcl.demo.factors import Factors, rng_for, tempo_of
from htcl.demo.songs import Song
from htcl.demo.words import (
    FIRST_NAMES,
    GENRE_WORDS,
    INSTRUMENT_WORDS,
    LAST_NAMES,
    METER_WORDS,
    MODE_WORDS,
    MOOD_WORDS,
    TEMPO_WORDS,
    TITLES,
)


def sample_tags(factors: Factors, rng: np.random.Generator) -> list[str]:
    """Two to seven tags in natural words. Each told factor is left out now and then, synonyms vary."""
    moods = MOOD_WORDS[factors.mood]
    words_and_chances = [
        (TEMPO_WORDS[tempo_of(factors.bpm)], 0.8),
        (moods, 0.85),
        (METER_WORDS[factors.meter], 0.6),
        (INSTRUMENT_WORDS[factors.instrument], 0.85),
        (MODE_WORDS[factors.mode], 0.5),
        (GENRE_WORDS[factors.genre], 0.5),
    ]
    tags = [str(rng.choice(words)) for words, chance in words_and_chances if rng.random() < chance]
    # People often say a mood twice, and a song without two tags gets two moods.
    if rng.random() < 0.25 or len(tags) < 2:
        tags += [str(word) for word in rng.choice(moods, size=2, replace=False)]
    return [str(tag) for tag in rng.permutation(list(dict.fromkeys(tags)))]


def _combine(first: Sequence[str], second: Sequence[str], seed: int, purpose: str, k: int) -> str:
    """The k-th of all combinations in a shuffled order; numbered from the second round on."""
    size = len(first) * len(second)
    cell = int(rng_for(seed, purpose).permutation(size)[k % size])
    name = f"{first[cell // len(second)]} {second[cell % len(second)]}"
    return name if k < size else f"{name} No. {k // size + 1}"


def catalog_rows(songs: list[Song], seed: int) -> list[dict[str, object]]:
    """The catalog, one row per song in the order of `songs`, with the columns of the catalog contract.

    Covers have the title of the original; album, genre and language are null for some songs.
    """
    titles: list[str] = []
    used = dict.fromkeys(TITLES, 0)
    rows: list[dict[str, object]] = []
    for song in songs:
        rng = rng_for(seed, "text", song.index)
        artist, language = song.artist.index, song.artist.language
        titles.append(_combine(*TITLES[language], seed, language, used[language]))
        used[language] += 1
        title_language = songs[song.composition].artist.language
        rows.append(
            {
                "track_id": song.track_id,
                "title": titles[song.composition],
                "artist": _combine(FIRST_NAMES, LAST_NAMES, seed, "artist", artist),
                "album": None if rng.random() < 0.1 else _combine(*TITLES[language], seed, "album", artist),
                "genre": None if rng.random() < 0.04 else song.factors.genre.capitalize(),
                "language": None if rng.random() < 0.2 else title_language,
                "tags": sample_tags(song.factors, rng),
                "release_date": song.release.isoformat(),
                "audio_path": song.audio_path,
                "split_group": song.split_group,
            }
        )
    return rows
