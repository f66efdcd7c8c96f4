"""The pairs job over generated logs, run by spark-submit and watched from outside."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from htcl.artifacts import ArtifactStore
from htcl.config_file import load_config
from htcl.ingest.catalog import CATALOG_FILE, CHECKED_CATALOG
from htcl.logs import LogLine, parse_line
from htcl.plan import plan
from htcl.schemas import SHARDS
from htcl.shards.index import write_index
from htcl.split import split_of
from tests.benchmarks.events import song_ids
from tests.benchmarks.spark_stages import Stage, read_stages, settings
from tests.benchmarks.watched import Memory, watch

ROOT = Path(__file__).resolve().parents[2]
CORES, DRIVER_MEMORY = 2, "2g"


@dataclass(frozen=True)
class Mined:
    """One run of the job.

    Attributes:
        start: seconds until Spark was up.
        count: seconds from there until the counts were committed; 0 where nothing was counted.
        snapshot: seconds from there until the pairs were published; 0 without a snapshot.
        memory: MB of JVM and Python when they took most together, while it counted and while it took the snapshot.
        phases: what the job itself says, by message and field.
        stages: of its tasks.
    """

    start: float
    count: float
    snapshot: float
    memory: tuple[Memory, Memory]
    phases: dict[str, float]
    stages: list[Stage]


def prepare(folder: Path, log: Path) -> Path:
    """A workspace that lacks nothing but pairs, all its songs in a catalog and in an index of shards.

    Returns:
        Its configuration file.
    """
    (folder / "audio").mkdir(parents=True)
    (folder / "catalog.jsonl").write_text("{}\n")  # the catalog as an artifact is what the job reads
    path = folder / "htcl.yaml"
    values = {
        "workspace": str(folder / "workspace"),
        "catalog": {"path": "catalog.jsonl", "audio_root": "audio"},
        "interactions": {"path": str(log)},
    }
    path.write_text(yaml.safe_dump(values))
    config = load_config(path)
    store, steps, songs = ArtifactStore(config.workspace), plan(config), song_ids()
    sides = [split_of(song, config.split) for song in songs.to_pylist()]
    columns = {"track_id": songs, "split_group": songs, "split": pa.array(sides)}
    with store.create(steps["catalog"].recipe) as draft:
        artists = {"artist": pa.array(np.arange(len(songs)) // 8).cast(pa.string())}
        pq.write_table(_filled({**columns, **artists}, CHECKED_CATALOG), draft.path / CATALOG_FILE)
    with store.create(steps["shards"].recipe) as draft:
        write_index(_filled(columns, SHARDS), draft.path)
    return path


def _filled(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    """Columns, and something in those that are missing."""
    n = len(columns["track_id"])
    some = {f.name: pa.array(["" if pa.types.is_string(f.type) else 0]) for f in schema if not f.nullable}
    rest = {name: pa.repeat(value[0], n) for name, value in some.items() if name not in columns}
    empty = {f.name: pa.nulls(n, f.type) for f in schema}
    return pa.table({name: {**empty, **rest, **columns}[name] for name in schema.names}).cast(schema)


def mine(config: Path, *arguments: str) -> Mined:
    """Run the job over two cores, in a driver with 2 GB of heap."""
    folder = Path(sys.executable).parent
    log = config.parent / f"events{len(list(config.parent.glob('events*')))}"
    command = [str(folder / "spark-submit"), "--master", f"local[{CORES}]", "--driver-memory", DRIVER_MEMORY]
    command += [*settings(log), str(ROOT / "jobs" / "mine_pairs.py"), "--config", str(config), *arguments]
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    seen = watch(command, environment)
    said = [(moment, line) for moment, text in seen.lines if (line := parse_line(text))]
    moments = {line.message: moment for moment, line in said}
    start = moments["session started"]
    counted = moments.get("counts committed", start)
    end = moments.get("pairs published", counted)
    memory = seen.peak(start, counted), seen.peak(counted, end)
    phases = _phases([line for _, line in said])
    return Mined(start, counted - start, end - counted, memory, phases, read_stages(log))


def _phases(said: list[LogLine]) -> dict[str, float]:
    """Seconds by (message, field)."""
    found = {}
    for line in said:
        for name, value in line.fields.items():
            if name.endswith("seconds") and line.message not in ("progress", "session started"):
                found[f"{line.message}: {name}" if name != "seconds" else line.message] = float(value)
    return found
