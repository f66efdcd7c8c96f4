"""MTG-Jamendo: full tracks under Creative Commons with tags of genre, instrument and mood; no log, no names.

The splits of its authors (data/splits/) are not mapped: the pipeline splits by groups of its own. Names of tracks and
artists are in a file that is not read (data/raw.meta.tsv): their ids stand in their place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from htcl.datasets.dataset import DataSet, Found, Source
from htcl.datasets.files import require_columns, require_file, tab_lines
from htcl.datasets.mapping import genre_and_tags, malformed, with_audio

COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
SUBSETS = ("all", "genre", "instrument", "moodtheme", "top50tags")


def _audio_root(source: Source) -> Path:
    """The folder audio/ where there is one; else the tracks lie in --from itself."""
    audio = source.folder / "audio"
    return audio if audio.is_dir() else source.folder


def _table(source: Source) -> Path:
    name = "autotagging.tsv" if source.subset in (None, "all") else f"autotagging_{source.subset}.tsv"
    return require_file(source.folder, name, f"data/{name}")


def _read(source: Source) -> Iterator[Found]:
    path, root = _table(source), _audio_root(source)
    lines = tab_lines(path)
    require_columns(path, COLUMNS, next(lines, ("", []))[1])
    for place, cells in lines:
        # Any number of tags stand at the end, each in a cell of its own.
        if len(cells) < len(COLUMNS) - 1 or not cells[0].strip():
            yield malformed(place)
            continue
        names = cells[3], cells[3].removesuffix(".mp3") + ".low.mp3"
        yield with_audio(_track(cells), root, *names)


def _track(cells: list[str]) -> dict[str, object]:
    words: dict[str, list[str]] = {}
    for cell in cells[5:]:
        category, _, tag = cell.rpartition("---")
        words.setdefault(category, []).append(tag)
    genres = words.pop("genre", [])
    duration = None
    with contextlib.suppress(ValueError):
        duration = float(cells[4])
    return {
        "track_id": cells[0],
        "artist": cells[1],
        "album": cells[2],
        "duration_s": duration,
        **genre_and_tags(genres, (tag for tags in words.values() for tag in tags)),
    }


MTG_JAMENDO = DataSet(
    name="mtg-jamendo",
    title="MTG-Jamendo",
    licence="audio: Creative Commons, a licence for each track (audio_licenses.txt); metadata: CC BY-NC-SA 4.0",
    citation="Bogdanov et al., The MTG-Jamendo Dataset for Automatic Music Tagging, ML4MD workshop at ICML 2019",
    homepage="https://github.com/MTG/mtg-jamendo-dataset",
    layout=(
        f"autotagging.tsv, also in data/: tab-separated, header {' '.join(COLUMNS)}, one cell for each tag; with "
        "--subset NAME autotagging_NAME.tsv",
        "<PATH>, also below audio/: such as 16/3516.mp3, or 16/3516.low.mp3",
    ),
    brings=("catalog", "audio"),
    read=_read,
    audio_root=_audio_root,
    subsets=SUBSETS,
    text_fields=("genre", "tags"),
    notes=("title, artist and album are ids: raw.meta.tsv is not read", "the authors' splits are not mapped"),
)
"""The adapter."""
