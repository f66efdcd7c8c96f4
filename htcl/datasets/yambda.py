"""Yambda: listens and likes of users of Yandex Music; item ids without names, no audio.

Times count seconds from a hidden start in steps of 5; they are given as seconds from 1970-01-01, so that distances and
order are right and dates are not. By the official split the test part begins at 25,913,600 s (1970-10-27T22:13:20Z).
Its audio embeddings (embeddings.parquet), and which album or artist an item is of, are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from htcl.datasets.dataset import DataSet, Found, Missing, Source
from htcl.datasets.files import optional_file, reading, require_columns, require_file
from htcl.datasets.logs import LogBatch, events
from htcl.ingest.times import MICROS

SUBSETS = ("50m", "500m", "5b")


def _read(source: Source) -> Iterator[Found]:
    folder = source.folder / "flat" / source.subset if source.subset else source.folder
    yield from _events(require_file(folder, "listens.parquet"), "listen", ("played_ratio_pct",))
    if likes := optional_file(folder, "likes.parquet"):
        yield from _events(likes, "like", ())
    else:
        yield Missing("likes.parquet is not there: the log has listens only")


def _events(path: Path, event_type: str, further: tuple[str, ...]) -> Iterator[Found]:
    columns, line = ["uid", "timestamp", "item_id", *further], 0
    with reading(path):
        file = pq.ParquetFile(path)
        require_columns(path, columns, file.schema_arrow.names)
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            rows = pa.table({
                "user_id": batch["uid"].cast(pa.string()),
                "track_id": batch["item_id"].cast(pa.string()),
                "ts": pc.multiply(batch["timestamp"].cast(pa.int64()), 1_000_000).cast(MICROS),
            })  # fmt: skip
            if further:
                ratio = pc.divide(batch["played_ratio_pct"].cast(pa.float32()), pa.scalar(100, pa.float32()))
                rows = rows.append_column("duration_ratio", ratio)
            yield from events(LogBatch(path.name, rows, np.arange(line + 1, line + 1 + len(rows))), event_type)
            line += len(rows)


BATCH_ROWS = 1 << 18

YAMBDA = DataSet(
    name="yambda",
    title="Yambda",
    licence="Apache-2.0",
    citation="Ploshkin et al., Yambda-5B - A Large-Scale Multi-modal Dataset for Ranking And Retrieval, RecSys 2025, "
    "arXiv 2505.22238",
    homepage="https://huggingface.co/datasets/yandex/yambda",
    layout=(
        "listens.parquet: uid timestamp item_id played_ratio_pct; --from is flat/50m, flat/500m or flat/5b, or with "
        "--subset the folder that holds flat/",
        "likes.parquet: uid timestamp item_id; may be missing",
    ),
    brings=("log",),
    read=_read,
    subsets=SUBSETS,
    positive={"listen": {"min_duration_ratio": 0.5}, "like": {}},
    notes=(
        "times are seconds from a hidden start, given as from 1970-01-01; the official split's test part begins at "
        "25,913,600 s",
        "songs have ids only: no names, no audio",
        "is_organic, dislikes, unlikes and undislikes are not mapped: a like that was taken back stays one",
    ),
)
"""The adapter."""
