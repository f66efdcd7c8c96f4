"""Million Playlist Dataset: playlists of Spotify users, without the users; no audio.

A playlist stands for a user and for a session: `user_id` and `session_id` are its pid, the time of all of its songs is
the day of its last change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from htcl.datasets.dataset import DataSet, Found, MissingInputError, Rejected, Source, Track
from htcl.datasets.logs import LogBatch, events
from htcl.datasets.mapping import clean
from htcl.errors import HTCLError

SLICES = "mpd.slice.*.json"
_COLUMNS = {"user_id": pa.string(), "session_id": pa.string(), "ts": pa.int64(), "track_id": pa.string()}


def _read(source: Source) -> Iterator[Found]:
    paths = sorted(chain(source.folder.glob(f"data/{SLICES}"), source.folder.glob(SLICES)))
    if not paths:
        raise MissingInputError(f"{source.folder / 'data'} holds no {SLICES}")
    seen: set[str] = set()
    for path in paths:
        rows: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        places: list[int] = []  # of the playlist in its slice
        for number, playlist in enumerate(_playlists(path), start=1):
            if not _whole(playlist):
                yield Rejected("interactions", f"{path.name}:{number}", "malformed_playlist", "no pid, time or tracks")
                continue
            for track in playlist["tracks"]:
                values = _track(track)
                _add(rows, playlist, values["track_id"])
                places.append(number)
                if values["track_id"] and values["track_id"] not in seen:
                    seen.add(values["track_id"])
                    yield Track(values)
        table = pa.table([pa.array(rows[name], kind) for name, kind in _COLUMNS.items()], names=list(_COLUMNS))
        yield from events(LogBatch(path.name, table, np.array(places, np.int64)), "playlist")


def _playlists(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())["playlists"]
    except (KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        raise HTCLError(f"{path} is no slice of playlists: {error}; download it again") from None
    if not isinstance(found, list):
        raise HTCLError(f"{path} is no slice of playlists: playlists is no list; download it again")
    return found


def _whole(playlist: Any) -> bool:
    if not isinstance(playlist, dict) or not isinstance(playlist.get("tracks"), list):
        return False
    changed = playlist.get("modified_at")
    return playlist.get("pid") is not None and isinstance(changed, int) and abs(changed) < 1 << 62


def _track(track: Any) -> dict[str, Any]:
    found = track if isinstance(track, dict) else {}
    length = found.get("duration_ms")
    uri, title, artist, album = (
        clean(found[name]) if isinstance(found.get(name), str) else None
        for name in ("track_uri", "track_name", "artist_name", "album_name")
    )
    seconds = length / 1000 if isinstance(length, int | float) else None
    return {"track_id": uri, "title": title, "artist": artist, "album": album, "duration_s": seconds}


def _add(rows: dict[str, list[Any]], playlist: dict[str, Any], track_id: str | None) -> None:
    pid = clean(str(playlist["pid"]))
    for name, value in zip(_COLUMNS, (pid, pid, playlist["modified_at"], track_id), strict=True):
        rows[name].append(value)


MILLION_PLAYLIST = DataSet(
    name="million-playlist",
    title="Million Playlist Dataset",
    licence="the rules of the challenge on AIcrowd; for research",
    licence_note="the text of the rules was not seen",
    citation="Chen et al., RecSys Challenge 2018: Automatic Music Playlist Continuation, RecSys 2018",
    homepage="https://www.aicrowd.com/challenges/spotify-million-playlist-dataset-challenge",
    layout=(f"data/{SLICES}: JSON with a list playlists, of pid, modified_at and tracks",),
    brings=("catalog", "log"),
    read=_read,
    text_fields=("title", "artist", "album"),
    positive={"playlist": {}},
    tracks_from_log=True,
    check_repeats=False,  # each is told once
    notes=(
        "a playlist stands for a user and a session",
        "the time of a song is the day of its playlist's last change",
        "the data set is no longer offered for download: Spotify Research is asked for it",
    ),
)
"""The adapter."""
