"""What the tasks of the embedding job do: embed the songs of some shards, or write kept rows anew."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.embeddings.embedder import Float32, SongEmbedder
from htcl.embeddings.work import Model, embeddings_table, identities
from htcl.logs import quiet_libraries
from htcl.parts import Part
from htcl.schemas import embeddings_schema
from htcl.shards.reader import Mel, ShardReader

BUFFER_BYTES = 128 << 20
"""Log-mels whose songs are batched by length together, and as many that are read meanwhile."""


def embed_group(group: bytes, workspace: str, model: Model, batch_size: int, device: str, threads: int) -> Part:
    """What a task does: embed a group of songs and write their rows as one file of the table.

    Args:
        group: of `song_groups`.
        workspace: where the model and the shards lie.
        model: loaded once a process.
        batch_size: songs of a forward pass.
        device: of torch.
        threads: that torch may use.
    """
    quiet_libraries()
    torch.set_num_threads(threads)
    folder = ArtifactStore(workspace).fetch(model.stage, model.key)
    embedder = _load(str(folder), model.key, device)
    songs = pa.ipc.open_stream(group).read_all()
    blocks = embed_songs(embedder, storage.join(workspace, "shards"), songs, model.reads_text, batch_size)
    rows = pa.concat_tables(blocks)
    dim = rows.schema.field("embedding").type.list_size
    return embeddings_table(workspace, dim).write(rows, model.key)


@lru_cache(maxsize=2)
def _load(folder: str, model_id: str, device: str) -> SongEmbedder:
    embedder = SongEmbedder.load(folder, model_id, device)
    # PySpark collects garbage after each task: it need not look through torch and the model every time, 0.3 s.
    gc.freeze()
    return embedder


def embed_songs(
    embedder: SongEmbedder, shards: str, songs: pa.Table, fused: bool, batch_size: int
) -> Iterator[pa.Table]:
    """Embed songs in the order of their bytes in the shards, those of about one length together.

    Args:
        embedder: of the model.
        shards: folder of the shards.
        songs: rows of the index with a text and its hash (`htcl.embeddings.work.find_work`); at least one.
        fused: also compute fusion embeddings.
        batch_size: songs of a forward pass.

    Yields:
        Rows of the embeddings table, without model_id.

    Raises:
        HTCLError: when a shard is gone or damaged.
    """
    for part, mels in _read_ahead(shards, songs):
        order = np.argsort([len(mel) for mel in mels], kind="stable")
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            rows = part.take(pa.array(batch))
            texts = rows["text"].to_pylist() if fused else None
            yield _rows(rows, *embedder.embed_songs([mels[row] for row in batch], texts))


def _read_ahead(shards: str, songs: pa.Table) -> Iterator[tuple[pa.Table, list[Mel]]]:
    """Read songs, each buffer while the one before is embedded."""
    reader = ShardReader(shards, songs, cache_bytes=0)
    buffer = np.cumsum(songs["size"].to_numpy()) // BUFFER_BYTES
    rows = np.split(np.arange(len(songs)), np.flatnonzero(np.diff(buffer)) + 1)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(reader.read, rows[0])
        for number, found in enumerate(rows):
            mels = coming.result()
            if number + 1 < len(rows):
                coming = pool.submit(reader.read, rows[number + 1])
            yield songs.take(pa.array(found)), mels


def rewrite_parts(parts: Sequence[Part], workspace: str, model: Model, gone: pa.Array) -> list[Part]:
    """What a task does: write the rows of files anew as one file, without those that are gone; none if all are."""
    table, kept = embeddings_table(workspace), []
    for part in parts:
        with storage.local_copy(storage.join(table.uri, part.path)) as path:
            rows = pq.ParquetFile(path).read()
        rows = rows.filter(pc.invert(pc.is_in(identities(rows, model), value_set=gone)))
        if len(rows):  # Spark's writer, which made the older files, knew lists of no fixed size only
            kept.append(rows.cast(_schema(len(rows["embedding"][0]))))
    return [table.write(pa.concat_tables(kept), model.key)] if kept else []


def _rows(songs: pa.Table, audio: Float32, fusion: Float32 | None) -> pa.Table:
    schema = _schema(audio.shape[1])
    vector, missing = schema.field("embedding").type, pa.nulls(len(songs))
    columns = {
        "track_id": songs["track_id"],
        "embedding": pa.FixedSizeListArray.from_arrays(audio.reshape(-1), type=vector),
        "fusion_embedding": missing.cast(vector),
        "content_hash": songs["content_hash"],
        "text_hash": missing.cast(pa.string()),
    }
    if fusion is not None:
        columns["fusion_embedding"] = pa.FixedSizeListArray.from_arrays(fusion.reshape(-1), type=vector)
        columns["text_hash"] = songs["text_hash"]
    return pa.table(columns, schema=schema)


def _schema(dim: int) -> pa.Schema:
    """Of a file, which does not hold the column that the table is partitioned by."""
    schema = embeddings_schema(dim)
    return schema.remove(schema.get_field_index("model_id"))
