"""The constants of docs/scale.md: what `bench_data --save` has measured and kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

MEASURED_FILE = Path(__file__).with_name("measured.json")


@dataclass(frozen=True)
class Measured:
    """What was measured on the machine of the table; a core is one of its cores.

    Attributes:
        log_events: of the largest log.
        log_days: that it is spread over.
        log_songs: of its catalog.
        log_bytes_per_event: of its Parquet files.
        pairs_per_event: pairs of songs in baskets, each as often as it occurs.
        rows_per_event: rows of the daily counts.
        row_bytes: of a row of the counts without its sketch.
        count_core_seconds_per_event: log to counts.
        shuffle_bytes_per_event: that reading tasks hand on.
        shuffle_bytes_per_pair: that counting tasks hand on.
        snapshot_core_seconds_per_row: row of the counts in the window to snapshot.
        snapshot_task_bytes_per_row: memory of a task that sums a bucket.
        list_seconds_per_file: reading the list of the files of the counts.
        known_bytes_per_pair: of a pair of the snapshot.
        index_bytes_per_song: of the index of shards.
        decode_core_seconds_per_song: bare loop, MP3 to log-mel of two minutes.
        embed_core_seconds_per_song: bare forward of the published sizes on a CPU.
    """

    log_events: int
    log_days: int
    log_songs: int
    log_bytes_per_event: float
    pairs_per_event: float
    rows_per_event: float
    row_bytes: float
    count_core_seconds_per_event: float
    shuffle_bytes_per_event: float
    shuffle_bytes_per_pair: float
    snapshot_core_seconds_per_row: float
    snapshot_task_bytes_per_row: float
    list_seconds_per_file: float
    known_bytes_per_pair: float
    index_bytes_per_song: float
    decode_core_seconds_per_song: float
    embed_core_seconds_per_song: float


def read_measured() -> Measured:
    """The constants that were kept."""
    return Measured(**json.loads(MEASURED_FILE.read_text()))
