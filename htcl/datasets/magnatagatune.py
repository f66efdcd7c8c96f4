"""MagnaTagATune: clips of 29 s with 188 tags given by players of a game; no log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from htcl.datasets.dataset import DataSet, Found, Source
from htcl.datasets.files import Row, require_columns, require_file, tab_lines, tab_rows
from htcl.datasets.mapping import malformed, stable_id, with_audio

CLIPS = "clip_info_final.csv"
ANNOTATIONS = "annotations_final.csv"
_COLUMNS = ("clip_id", "title", "artist", "album", "segmentStart", "segmentEnd", "mp3_path")


def _audio_root(source: Source) -> Path:
    return source.folder


def _read(source: Source) -> Iterator[Found]:
    clips, annotations = require_file(source.folder, CLIPS), require_file(source.folder, ANNOTATIONS)
    tags: dict[str, list[str]] = {}
    lines = tab_lines(annotations)
    header = next(lines, ("", []))[1]
    require_columns(annotations, ("clip_id", "mp3_path"), header)
    for place, cells in lines:
        if len(cells) != len(header):
            yield malformed(place)
            continue
        tags[cells[header.index("clip_id")]] = [name for name, cell in zip(header, cells, strict=True) if cell == "1"]
    for place, row in tab_rows(clips, _COLUMNS):
        if row is None or not row["clip_id"].strip():
            yield malformed(place)
        else:
            yield with_audio(_track(row, tags.get(row["clip_id"], [])), _audio_root(source), row["mp3_path"].strip())


def _track(row: Row, tags: list[str]) -> dict[str, object]:
    song = [row[name].strip() for name in ("artist", "album", "title")]
    duration = None
    with contextlib.suppress(ValueError):
        duration = float(row["segmentEnd"]) - float(row["segmentStart"])
    return {
        "track_id": row["clip_id"],
        "title": row["title"],
        "artist": row["artist"],
        "album": row["album"],
        "tags": [tag for tag in tags if tag != "clip_id"],
        "duration_s": duration,
        # Clips of one song: a split must not separate them.
        "split_group": stable_id(*song) if any(song) else None,
        "fold": row["mp3_path"].strip()[:1],
    }


MAGNATAGATUNE = DataSet(
    name="magnatagatune",
    title="MagnaTagATune",
    licence="CC BY-NC-SA 3.0",
    citation="Law et al., Evaluation of Algorithms Using Games: The Case of Music Tagging, ISMIR 2009",
    homepage="https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset",
    layout=(
        f"{CLIPS}: tab-separated, header with {' '.join(_COLUMNS)}",
        f"{ANNOTATIONS}: tab-separated, header clip_id, 188 tags, mp3_path; 0 or 1 for each tag",
        "<mp3_path>: in folders 0 to 9 and a to f",
    ),
    brings=("catalog", "audio"),
    read=_read,
    audio_root=_audio_root,
    text_fields=("title", "artist", "album", "tags"),
    extra_columns=("fold",),
    notes=("the column fold holds the folder, by which splits go: mostly 0 to b training, c validation, d to f test",),
)
"""The adapter."""
