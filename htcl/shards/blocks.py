"""What goes from the driver of the shards job to its tasks and back: rows as compressed Arrow bytes."""

from __future__ import annotations

import pyarrow as pa

TRACK = pa.schema([("track_id", pa.string()), ("audio_path", pa.string()), ("duration_s", pa.float32())])
HASHES = pa.schema([("track_id", pa.string()), ("file_hash", pa.string())])
RESULTS = pa.schema(
    [
        ("track_id", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("frames", pa.int32()),
        ("content_hash", pa.string()),
        ("file_hash", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("warnings", pa.list_(pa.string())),
    ]
)
"""What became of each track: a place in a shard, or a reason."""


def pack(rows: pa.Table) -> bytes:
    """Rows as compressed Arrow bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def unpack(blocks: list[bytes], schema: pa.Schema) -> pa.Table:
    """The rows of all blocks."""
    return pa.concat_tables([schema.empty_table(), *(pa.ipc.open_stream(block).read_all() for block in blocks)])
