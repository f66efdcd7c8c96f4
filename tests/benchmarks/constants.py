"""The constants of docs/scale.md, taken from the runs behind the table of `make bench-data`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import duckdb

from htcl.artifacts import ArtifactStore
from htcl.config_file import load_config
from htcl.pairs import KNOWN_FOLDER
from htcl.pairs.store import pair_table
from htcl.plan import plan
from htcl.shards.index import INDEX_FILE
from tests.benchmarks.events import DAYS, SONGS
from tests.benchmarks.measured import MEASURED_FILE, Measured
from tests.benchmarks.mining import CORES
from tests.benchmarks.mining_lines import Size
from tests.benchmarks.song_costs import decode_seconds, embed_seconds
from tests.benchmarks.timing import median_seconds


def save_measured(sizes: Sequence[Size], folder: Path) -> None:
    """Work out the constants from mined logs and keep them.

    Args:
        sizes: at least two, ascending: what a run costs whatever its size falls out of their difference.
        folder: for a song.

    Nothing is kept where the difference of two sizes drowns in noise.
    """
    small, large = sizes[0], sizes[-1]
    few, many = _counts(small), _counts(large)
    more_events, more_rows = large.events - small.events, many["rows"] - few["rows"]
    count, snapshot = (
        (getattr(large.mined, name) - getattr(small.mined, name)) * CORES for name in ("count", "snapshot")
    )
    early, late = small.mined.memory[1], large.mined.memory[1]
    memory = (late["python"] - early["python"]) * 1e6 / CORES
    buckets = load_config(large.config).pairs.buckets
    read, counted = large.mined.stages[:2]
    found = Measured(
        log_events=large.events,
        log_days=DAYS,
        log_songs=SONGS,
        log_bytes_per_event=_size(large.log) / large.events,
        pairs_per_event=many["pairs"] / large.events,
        rows_per_event=many["rows"] / large.events,
        row_bytes=many["other_bytes"] / many["rows"],
        count_core_seconds_per_event=count / more_events,
        shuffle_bytes_per_event=read.shuffled / large.events,
        shuffle_bytes_per_pair=counted.shuffled / many["pairs"],
        snapshot_core_seconds_per_row=snapshot / more_rows,
        snapshot_task_bytes_per_row=memory / (more_rows / buckets),
        list_seconds_per_file=_list_seconds(large),
        known_bytes_per_pair=_known_bytes(large),
        index_bytes_per_song=_index_bytes(large) / SONGS,
        decode_core_seconds_per_song=decode_seconds(folder),
        embed_core_seconds_per_song=embed_seconds(),
    )
    rounded = {name: v if isinstance(v, int) else float(f"{v:.3g}") for name, v in asdict(found).items()}
    if wrong := [name for name, value in rounded.items() if value <= 0]:
        print(
            f"constants not kept: {', '.join(wrong)} came out as nothing; sizes lie too close, or the machine is busy"
        )
        return
    MEASURED_FILE.write_text(json.dumps(rounded, indent=2) + "\n")


def _counts(size: Size) -> dict[str, float]:
    """Rows and pairs of the daily counts, and their bytes without the sketches."""
    files = f"{pair_table(load_config(size.config).workspace).uri}/*/*.parquet"
    rows = f"""
        select count(*), sum(n_baskets) filter (source = 'copreference') from read_parquet('{files}')
    """
    sizes = f"""
        select sum(total_compressed_size) filter (path_in_schema not like 'users%') from parquet_metadata('{files}')
    """
    names = ("rows", "pairs", "other_bytes")
    found = [float(value) for sql in (rows, sizes) for row in duckdb.sql(sql).fetchall() for value in row]
    return dict(zip(names, found, strict=True))


def _list_seconds(size: Size) -> float:
    table = pair_table(load_config(size.config).workspace)
    (seconds,) = median_seconds([table.parts], rounds=5)
    return seconds / len(table.parts())


def _known_bytes(size: Size) -> float:
    folder = _artifact(size, "pairs") / KNOWN_FOLDER
    found = duckdb.sql(f"select count(*) from read_parquet('{folder}/*.parquet')").fetchall()
    return _size(folder) / found[0][0]


def _index_bytes(size: Size) -> float:
    return (_artifact(size, "shards") / INDEX_FILE).stat().st_size


def _artifact(size: Size, kind: str) -> Path:
    config = load_config(size.config)
    return ArtifactStore(config.workspace).fetch(kind, plan(config)[kind].key)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))
