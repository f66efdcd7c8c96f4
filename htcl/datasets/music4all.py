"""Music4All: 30-second clips with metadata, tags, genres and the listening histories of Last.fm users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from htcl.datasets.dataset import DataSet, Found, Missing, Source
from htcl.datasets.files import Row, optional_file, require_file, require_folder, tab_rows
from htcl.datasets.logs import events
from htcl.datasets.mapping import genre_and_tags, malformed, with_audio
from htcl.datasets.tab_log import read_tab_log

INFORMATION = "id_information.csv"
HISTORY = "listening_history.csv"
DETAILS = {
    "id_metadata.csv": ("release", "no track has a release date"),
    "id_genres.csv": ("genres", "no track has a genre"),
    "id_tags.csv": ("tags", "no track has tags"),
    "id_lang.csv": ("lang", "no track has a language"),
}
"""File -> its column that is read, and what is missing without the file."""

NO_LANGUAGE = ("INTRUMENTAL", "INSTRUMENTAL")
"""The first is how the data set spells it."""

CATALOG_LAYOUT = (
    f"{INFORMATION}: tab-separated, header id artist song album_name",
    *(f"{name}: tab-separated, header with id and {column}; may be missing" for name, (column, _) in DETAILS.items()),
    "audios/<id>.mp3",
)


def audio_root(source: Source) -> Path:
    """The folder with the clips."""
    return require_folder(source.folder, "audios")


def catalog(source: Source, weighted_tags: Mapping[str, list[str]] | None = None) -> Iterator[Found]:
    """Tracks of the catalog, and rows and files that are not there.

    Args:
        source: the folder of Music4All.
        weighted_tags: track id -> tags that stand in place of those of id_tags.csv.

    The stated length is that of the whole song, which a clip is not: it is not mapped, or all would count as truncated.
    """
    root, path, details = audio_root(source), require_file(source.folder, INFORMATION), {}
    for name, (column, lacking) in DETAILS.items():
        if found := optional_file(source.folder, name):
            details[column] = {row["id"]: row[column] for _, row in tab_rows(found, ("id", column)) if row}
            yield from (malformed(place) for place, row in tab_rows(found, ("id", column)) if row is None)
        else:
            yield Missing(f"{name} is not there: {lacking}")
    for place, row in tab_rows(path, ("id", "artist", "song", "album_name")):
        if row is None or not row["id"].strip():
            yield malformed(place)
        else:
            texts = {column: values.get(row["id"], "") for column, values in details.items()}
            yield with_audio(_track(row, texts, weighted_tags or {}), root, f"{row['id']}.mp3")


def _track(row: Row, details: Mapping[str, str], weighted_tags: Mapping[str, list[str]]) -> dict[str, object]:
    tags = weighted_tags.get(row["id"]) or details.get("tags", "").split(",")
    language = details.get("lang", "").strip()
    return {
        "track_id": row["id"],
        "title": row["song"],
        "artist": row["artist"],
        "album": row["album_name"],
        "language": None if language in NO_LANGUAGE else language,
        "release_date": details.get("release"),
        **genre_and_tags(details.get("genres", "").split(","), tags),
    }


def _read(source: Source) -> Iterator[Found]:
    history = require_file(source.folder, HISTORY)
    yield from catalog(source)
    columns = {"user_id": "user", "track_id": "song", "ts": "timestamp"}
    for batch in read_tab_log(history, columns):
        yield from events(batch, "listen")


MUSIC4ALL = DataSet(
    name="music4all",
    title="Music4All",
    licence="on request, for research, under an agreement with its authors",
    licence_note="the text of Music4All's agreement was not seen",
    citation="Santana et al., Music4All: A New Music Database and Its Applications, IWSSIP 2020, pp. 399-404",
    homepage="https://sites.google.com/view/contact4music4all",
    layout=(*CATALOG_LAYOUT, f"{HISTORY}: tab-separated, header user song timestamp, such as 2019-02-20 12:28"),
    brings=("catalog", "audio", "log"),
    read=_read,
    audio_root=audio_root,
    text_fields=("title", "artist", "album", "genre", "language", "tags"),
    positive={"listen": {}},
    notes=("times of the log name no zone and are taken as UTC", "audio is clips of 30 s"),
)
"""The adapter."""
