"""The ground truth as Parquet: what tests may know and a pipeline must not read."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from htcl.demo.factors import HEARD, tempo_of
from htcl.demo.listeners import Listeners, user_id
from htcl.demo.songs import Song


def write_truth(root: Path, songs: list[Song], listeners: Listeners) -> None:
    """Write `truth/songs.parquet` (a row per song) and `truth/listeners.parquet` (a row per listener)."""
    folder = root / "truth"
    folder.mkdir(parents=True)
    pq.write_table(_songs(songs), folder / "songs.parquet")
    pq.write_table(_listeners(listeners), folder / "listeners.parquet")


def _songs(songs: list[Song]) -> pa.Table:
    rows = [
        {"track_id": song.track_id}
        | asdict(song.factors)
        | {
            "tempo": tempo_of(song.factors.bpm),
            "composition": song.composition,
            "artist_index": song.artist.index,
            "popularity": song.popularity,
            "release_date": song.release,
            "duration_s": song.duration_s,
            "damage": song.damage,
        }
        for song in songs
    ]
    return pa.Table.from_pylist(rows)


def _listeners(listeners: Listeners) -> pa.Table:
    """Heard tastes as `taste_<factor>`, the others as lists in the order of the tables in factors.py."""
    columns: dict[str, list[object]] = {
        "user_id": [user_id(user) for user in range(len(listeners))],
        "sessions_per_day": listeners.sessions_per_day.tolist(),
    }
    for name, taste in listeners.tastes.items():
        if name == "heard":
            columns |= {f"taste_{factor}": taste[:, k].tolist() for k, factor in enumerate(HEARD)}
        else:
            columns[f"taste_{name}"] = taste.tolist()
    return pa.table(columns)
