"""Tables of the workspace as data frames and back, read and written by tasks: no storage that Spark has no jars for."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from htcl.artifacts import ArtifactStore
from htcl.ingest.catalog import CHECKED_CATALOG, read_catalog
from htcl.parts import PARTS, Part, part_rows, write_part
from htcl.schemas import SHARDS
from htcl.shards.index import read_index

SONG_COLUMNS = ["track_id", "split_group", "split"]


def songs_frame(spark: SparkSession, workspace: str, shards: str) -> DataFrame:
    """The songs of a shards artifact: track_id, split_group and the side of the split."""
    schema = pa.schema([SHARDS.field(name) for name in SONG_COLUMNS])

    def read() -> pa.Table:
        return read_index(ArtifactStore(workspace).fetch("shards", shards)).select(SONG_COLUMNS)

    return _in_slices(spark, read, schema)


def catalog_frame(spark: SparkSession, workspace: str, catalog: str, columns: list[str]) -> DataFrame:
    """Columns of a catalog artifact."""
    schema = pa.schema([CHECKED_CATALOG.field(name) for name in columns])

    def read() -> pa.Table:
        return read_catalog(ArtifactStore(workspace).fetch("catalog", catalog), columns)

    return _in_slices(spark, read, schema)


def _in_slices(spark: SparkSession, read, schema: pa.Schema) -> DataFrame:  # type: ignore[no-untyped-def]
    """A table of an artifact, each task handing over a slice of it."""
    slices = spark.sparkContext.defaultParallelism

    def rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                table = read()
                first, end = (len(table) * n // slices for n in (number, number + 1))
                yield from table.slice(first, end - first).cast(schema).to_batches(20_000)

    return spark.range(0, slices, 1, slices).mapInArrow(rows, from_arrow_schema(schema))


def write_frame(frame: DataFrame, folder: str, below: str, schema: pa.Schema) -> list[Part]:
    """Write a frame as Parquet files into an artifact, a file a task.

    Args:
        frame: with the schema's columns.
        folder: `Draft.uri` of the artifact.
        below: folder inside it.
        schema: of the files.

    Returns:
        The files of the tasks that finished; at least one, so that the folder is there.
    """

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = pa.Table.from_batches(batches, schema=None) if (batches := list(batches)) else None
        if rows is not None and len(rows):
            yield part_rows([write_part(folder, rows.select(schema.names).cast(schema), below)])

    found = frame.select(*schema.names).mapInArrow(write, from_arrow_schema(PARTS)).collect()
    parts = [Part(row["path"], row["size"], row["rows"], row["partition"]) for row in found]
    return parts or [write_part(folder, schema.empty_table(), below)]
