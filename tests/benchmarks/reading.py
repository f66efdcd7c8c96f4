"""How long training waits for data, and how fast shards are read against the same bytes from front to back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from htcl.config import StageConfig
from htcl.ingest.catalog import CATALOG_FILE, CHECKED_CATALOG
from htcl.schemas import SHARDS
from htcl.shards.index import read_index, write_index
from htcl.shards.reader import ShardReader
from htcl.shards.writer import ShardWriter
from htcl.training.batches import Loader, Songs
from htcl.training.samples import stage1_samples
from htcl.training.schedule import Schedule
from tests.benchmarks.setting import new_engine, new_mels, new_model, new_processor, train_on
from tests.benchmarks.table import Line
from tests.benchmarks.timing import median_seconds

SONGS, BATCH, SHARD_BYTES, DELAY = 512, 32, 16 << 20, 0.030


class Slow:
    """A filesystem whose reads take longer, as object storage's do."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        time.sleep(DELAY)
        return bytes(self._inner.cat_file(path, start=start, end=end))


def data_wait(folder: Path) -> list[Line]:
    """The share of an epoch that training waits: nothing of it was read before."""
    index = _write_songs(folder)
    return [
        _wait(folder, index, slow=False, what="shards on local disk", wanted="under 2 %"),
        _wait(folder, index, slow=True, what=f"{DELAY * 1000:.0f} ms added to each read", wanted="under 5 %"),
    ]


def _wait(folder: Path, index: pa.Table, slow: bool, what: str, wanted: str) -> Line:
    songs = Songs(str(folder / "shards"), index, folder, ["title"], new_processor())
    if slow:
        songs._reader._fs = Slow(songs._reader._fs)
    loader = Loader(Schedule(stage1_samples(index), BATCH, 1, 0), songs, StageConfig(), 0, 1)
    engine = new_engine(1, BATCH, new_model(1))
    batches = loader.batches()
    train_on(engine, next(batches))  # reading begins before the first step does
    waited, start = 0.0, time.perf_counter()
    for _ in range(loader.schedule.total_steps - 1):
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        train_on(engine, batch)
    total = time.perf_counter() - start
    return Line(f"waiting for data, {what}", f"{waited:.2f} s", f"{total:.1f} s", f"{waited / total:.1%}", wanted)


def throughput(folder: Path, rounds: int) -> list[Line]:
    """Shuffled reading, checked and decoded, against reading the files from front to back; both from memory."""
    index = read_index(folder)
    order = np.random.default_rng(0).permutation(len(index))
    files = sorted((folder / "shards").iterdir())
    size = sum(path.stat().st_size for path in files)

    def shuffled() -> None:
        reader = ShardReader(str(folder / "shards"), index, cache_bytes=0)
        for start in range(0, len(order), BATCH):
            reader.read(order[start : start + BATCH])

    def sequential() -> None:
        for path in files:
            with path.open("rb", buffering=0) as handle:
                while handle.read(1 << 20):
                    pass

    ours, peer = (size / seconds / 1e6 for seconds in median_seconds([shuffled, sequential], rounds))
    what = "reading shards in training order, hashes checked, against the same bytes front to back (page cache)"
    return [Line(what, f"{ours:.0f} MB/s", f"{peer:.0f} MB/s", f"{ours / peer:.0%}", "printed")]


def _write_songs(folder: Path) -> pa.Table:
    lengths = np.random.default_rng(0).integers(200, 1252, SONGS).tolist()
    writer = ShardWriter(str(folder / "shards"), SHARD_BYTES)
    entries = []
    for number, mel in enumerate(new_mels(lengths)):
        entries += writer.add(f"T{number:04d}", mel)
    entries += writer.close()
    rows = [{**vars(entry), "source_tag": "", "split_group": entry.track_id, "split": "train"} for entry in entries]
    write_index(pa.Table.from_pylist(rows, SHARDS), folder)
    catalog = [{"track_id": f"T{n:04d}", "title": f"w{n}", "audio_path": "x", "split": "train"} for n in range(SONGS)]
    pq.write_table(pa.Table.from_pylist(catalog, CHECKED_CATALOG), folder / CATALOG_FILE)
    return read_index(folder)
