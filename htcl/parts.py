"""Parquet files that tasks write side by side: named once, told to the driver, visible when it commits them.

A task that is killed or run twice leaves a file that nobody was told of: only what a finished task returned is
committed.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from htcl import storage


@dataclass(frozen=True)
class Part:
    """One Parquet file below the folder of a table or an artifact.

    Attributes:
        path: relative to that folder.
        size: bytes.
        rows: rows.
        partition: value of the partition column, which the file itself does not hold.
    """

    path: str
    size: int
    rows: int
    partition: str | None = None


def write_part(
    folder: str,
    rows: pa.Table,
    below: str = "",
    partition_by: str | None = None,
    value: str | None = None,
    name: str = "part",
) -> Part:
    """Write rows as one Parquet file under a fresh name.

    Args:
        folder: of the table or the artifact, local or in object storage.
        rows: with or without the partition column, which is left out.
        below: folder inside `folder`.
        partition_by: partition column; the file then lies in a folder `column=value`.
        value: of the partition column.
        name: what the file's name starts with.
    """
    if partition_by is not None and partition_by in rows.column_names:
        rows = rows.drop_columns([partition_by])
    places = [below] if below else []
    if partition_by is not None:
        places.append(f"{partition_by}={quote(str(value), safe=' ')}")
    path = "/".join([*places, f"{name}-{uuid.uuid4().hex}.parquet"])
    fs, target = storage.filesystem(storage.join(folder, path))
    if storage.is_local(folder):
        fs.makedirs(target.rpartition("/")[0], exist_ok=True)
    # A half file needs no care: whoever failed to write it tells nobody of it.
    with fs.open(target, "wb") as handle:
        # Numbers such as hashes of users do not repeat: a dictionary of them costs time and saves nothing.
        words = [field.name for field in rows.schema if not pa.types.is_nested(field.type)]
        pq.write_table(rows, handle, compression="zstd", use_dictionary=words)
        size = handle.tell()
    return Part(path, size, rows.num_rows, value)


def total_rows(parts: Iterable[Part]) -> int:
    """Rows of all parts."""
    return sum(part.rows for part in parts)


PARTS = pa.schema(
    [("path", pa.string()), ("size", pa.int64()), ("rows", pa.int64()), ("partition", pa.string())],
)
"""Parts as rows, which Spark carries to the driver."""


def part_rows(parts: Iterable[Part]) -> pa.RecordBatch:
    """Parts as rows of PARTS."""
    return pa.RecordBatch.from_pylist([asdict(part) for part in parts], schema=PARTS)
