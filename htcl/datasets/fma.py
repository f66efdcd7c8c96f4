"""FMA: tracks of the Free Music Archive, as clips of 30 s (small, medium, large) or whole (full); no log.

The subsets are nested: what tracks.csv calls small belongs to medium, too.
"""

from __future__ import annotations

import ast
import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pv

from htcl.datasets.dataset import DataSet, Found, LeftOut, MissingInputError, Rejected, Source
from htcl.datasets.files import open_text, reading, require_columns, require_file
from htcl.datasets.mapping import genre_and_tags, malformed, with_audio
from htcl.errors import HTCLError

SUBSETS = ("small", "medium", "large", "full")
BROKEN = ("099134", "108925", "133297")
"""Tracks whose clips have no audio at all, because the site states a wrong length; fma_full has them whole."""

_WANTED = {
    "track_id": "track_id", "title": "track.title", "artist": "artist.name", "album": "album.title",
    "language": "track.language_code", "released": "album.date_released", "genre": "track.genre_top",
    "genres": "track.genres", "all_genres": "track.genres_all", "tags": "track.tags", "duration": "track.duration",
    "subset": "set.subset", "split": "set.split",
}  # fmt: skip
BLOCK_BYTES = 1 << 24
"""Text of one batch of tracks.csv; a row has to fit into it."""


def _subset(source: Source) -> str:
    if source.subset:
        return source.subset
    there = [name for name in SUBSETS if (source.folder / f"fma_{name}").is_dir()]
    if len(there) > 1:
        raise HTCLError(f"{source.folder} holds fma_{' and fma_'.join(there)}; say which with --subset")
    if not there:
        raise MissingInputError(f"{source.folder} holds none of fma_{', fma_'.join(SUBSETS)}")
    return there[0]


def _audio_root(source: Source) -> Path:
    root = source.folder / f"fma_{_subset(source)}"
    if not root.is_dir():
        raise MissingInputError(f"{root} is not there")
    return root


def _read(source: Source) -> Iterator[Found]:
    subset, root = _subset(source), _audio_root(source)
    genres = _genres(require_file(source.folder, "fma_metadata/genres.csv"))
    # The subsets that this one holds.
    held, larger = SUBSETS[: SUBSETS.index(subset) + 1], 0
    for row in _rows(require_file(source.folder, "fma_metadata/tracks.csv")):
        if isinstance(row, Rejected):
            yield row
        elif subset != "full" and row["subset"] not in held:
            larger += 1
        else:
            yield _track(row, genres, root, whole=subset == "full")
    yield LeftOut(f"not_in_fma_{subset}", larger)


def _track(row: dict[str, str], genres: dict[str, str], root: Path, whole: bool) -> Found:
    key = row["track_id"].zfill(6)
    if key in BROKEN and not whole:
        return Rejected("audio", row["track_id"], "broken_audio", "its clip is known to have no audio")
    try:
        titles = [genres[str(number)] for number in (*_list(row["genres"]), *_list(row["all_genres"]))]
        tags = [str(tag) for tag in _list(row["tags"])]
    except (KeyError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        seen = "genres, genres_all or tags is no list, or has a genre that genres.csv lacks"
        return Rejected("catalog", row["track_id"], "bad_list", seen)
    values: dict[str, object] = {name: row[name] for name in ("track_id", "title", "artist", "album", "language")}
    values |= {"release_date": row["released"][:10], "fma_split": row["split"]}
    with contextlib.suppress(ValueError):  # of a clip it says how long the whole track is
        values["duration_s"] = float(row["duration"]) if whole else None
    return with_audio(values | genre_and_tags([row["genre"], *titles], tags), root, f"{key[:3]}/{key}.mp3")


def _list(text: str) -> list[object]:
    found = ast.literal_eval(text) if text.strip() else []
    if not isinstance(found, list):
        raise ValueError(f"{text!r} is no list")
    return found


def _genres(path: Path) -> dict[str, str]:
    """Genre id -> title."""
    with open_text(path) as text:
        rows = csv.DictReader(text)
        require_columns(path, ("genre_id", "title"), list(rows.fieldnames or []))
        return {row["genre_id"]: row["title"] or "" for row in rows}


def _rows(path: Path) -> Iterator[dict[str, str] | Rejected]:
    """Rows of tracks.csv under the names of _WANTED, and those that cannot be told into columns, by their numbers.

    Two header rows make one name, such as track.title; a third names the id. Biographies have several lines, so that
    the number of a row is not that of its line.
    """
    header, refused = _header(path), list[int]()

    def refuse(row: pv.InvalidRow) -> str:
        refused.append(row.number)
        return "skip"

    with reading(path):
        reader = pv.open_csv(
            path,
            # With threads no row has a number.
            pv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=header, skip_rows=3),
            pv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse),
            pv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.binary()),
                include_columns=list(_WANTED.values()), check_utf8=False,
            ),
        )  # fmt: skip
        for batch in reader:
            for row in batch.to_pylist():
                values = {name: row[column].decode(errors="replace") for name, column in _WANTED.items()}
                yield values if values["track_id"].isdecimal() else malformed(values["track_id"])
        yield from (malformed(f"{path.name}:{number}") for number in refused)


def _header(path: Path) -> list[str]:
    with open_text(path) as text:
        rows = csv.reader(text)
        upper, lower, third = (next(rows, []) for _ in range(3))
    header = [*third[:1], *(f"{a}.{b}" for a, b in zip(upper[1:], lower[1:], strict=False))]
    require_columns(path, _WANTED.values(), header)
    return header


FMA = DataSet(
    name="fma",
    title="FMA: A Dataset For Music Analysis",
    licence="metadata: CC BY 4.0; audio: the licence that its artist chose, for each track; for research",
    citation="Defferrard et al., FMA: A Dataset for Music Analysis, ISMIR 2017, arXiv 1612.01840",
    homepage="https://github.com/mdeff/fma",
    layout=(
        "fma_metadata/tracks.csv: comma-separated with three header rows, such as track, title and track_id",
        "fma_metadata/genres.csv: comma-separated, header with genre_id and title",
        "fma_small, fma_medium, fma_large or fma_full: such as fma_small/000/000002.mp3",
    ),
    brings=("catalog", "audio"),
    read=_read,
    audio_root=_audio_root,
    subsets=SUBSETS,
    text_fields=("title", "artist", "album", "genre", "tags"),
    extra_columns=("fma_split",),
    notes=(
        "the column fma_split holds the authors' split (training, validation, test)",
        "some clips of fma_large have no audio, and the site states a wrong length for some tracks of fma_full",
    ),
)
"""The adapter."""
