"""What a finished workspace holds, as hashes that depend on neither the order of rows nor the bytes of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from htcl.artifacts import ArtifactStore
from htcl.champion import require_champion
from htcl.evaluation.results import PER_QUERY_FILE
from htcl.pairs.quality import quality_table
from htcl.pairs.store import pair_table
from htcl.search.index import INDEX_FILE, indexed_tracks, read_embeddings
from htcl.shards.index import read_index
from htcl.shards.reader import ShardReader
from htcl.shards.state import index_table, shard_folder
from htcl.tables import rejects_table

Truth = dict[str, str]
"""Hash by what it is of; the number of rows stands before it where there are rows."""
EMBEDDED = ("embeddings", "index")
"""What depends on the layout of songs in shards by its rounding: another layout makes other batches."""
ROUNDING = 2e-6
"""Of a unit embedding's values."""


def read_truth(workspace: str) -> Truth:
    """Everything that the published set stands on.

    Raises:
        HTCLError: naming what is damaged.
    """
    store, champion = ArtifactStore(workspace), require_champion(workspace)
    keys = champion.keys
    pairs = store.manifest("evaluation", keys["evaluation"])["inputs"]["pairs"]
    stage1 = store.manifest("stage2", keys["stage2"])["inputs"]["stage1"]
    _, _, embedded = _published_embeddings(workspace)
    return {
        "catalog": rows_hash(_parquet(store.fetch("catalog", keys["catalog"]))),
        "layout": _layout_hash(store, keys["shards"]),
        "log-mels": _mels_hash(store, keys["shards"]),
        "songs": rows_hash(index_table(workspace).read(columns=["track_id", "content_hash", "frames", "split"])),
        "rejects": rows_hash(rejects_table(workspace).read()),
        "log quality": rows_hash(quality_table(workspace).read()),
        "pair counts": rows_hash(pair_table(workspace).read()),
        "pairs": rows_hash(_parquet(store.fetch("pairs", pairs) / "pairs")),
        "stage 1": parameters_hash(store.fetch("stage1", stage1)),
        "stage 2": parameters_hash(store.fetch("stage2", keys["stage2"])),
        "figures": rows_hash(pq.read_table(store.fetch("evaluation", keys["evaluation"]) / PER_QUERY_FILE)),
        "embeddings": rows_hash(embedded.drop_columns(["model_id"])),
        "index": _hash(f"{track} {_bytes(vector)}" for track, vector in _published_index(workspace)),
    }


def check_close(one: str, other: str) -> None:
    """Two workspaces publish the same embeddings and index but for rounding.

    Raises:
        AssertionError: where they do not.
    """
    (tracks, vectors, rows), (others, rounded, more) = map(_published_embeddings, (one, other))
    assert tracks == others
    np.testing.assert_allclose(rounded, vectors, rtol=0, atol=ROUNDING)
    identity = [name for name in rows.column_names if name not in ("embedding", "fusion_embedding")]
    assert rows_hash(rows.select(identity)) == rows_hash(more.select(identity))
    fusion = [
        np.concatenate([value or [np.nan] for value in table["fusion_embedding"].to_pylist()]) for table in (rows, more)
    ]
    np.testing.assert_allclose(fusion[1], fusion[0], rtol=0, atol=ROUNDING)
    for workspace in (one, other):
        indexed, found = zip(*_published_index(workspace), strict=True)
        assert list(indexed) == tracks
        np.testing.assert_allclose(np.stack(found), vectors, rtol=0, atol=ROUNDING)


def _published_embeddings(workspace: str) -> tuple[list[str], np.ndarray, pa.Table]:
    """Of the champion: track ids, unit embeddings, rows; sorted by track."""
    keys = require_champion(workspace).keys
    version = ArtifactStore(workspace).manifest("embeddings", keys["embeddings"])["tables"]["embeddings"]
    return read_embeddings(workspace, keys["stage2"], version)


def _published_index(workspace: str) -> Iterator[tuple[str, np.ndarray]]:
    """Of the champion: track id and vector, for each vector that is there."""
    folder = ArtifactStore(workspace).fetch("index", require_champion(workspace).keys["index"])
    vectors = faiss.read_index(str(folder / INDEX_FILE))
    yield from zip(indexed_tracks(folder).to_pylist(), vectors.reconstruct_n(0, vectors.ntotal), strict=True)


def rows_hash(table: pa.Table) -> str:
    """Of all rows, each as often as it is there, whatever their order."""
    names = sorted(table.column_names)
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    return _hash(map(repr, rows))


def parameters_hash(folder: Path) -> str:
    """Of a model's parameters in float32."""
    tensors = load_file(folder / "model.safetensors")
    return _hash(f"{name} {value.shape} {_bytes(value)}" for name, value in tensors.items())


def _layout_hash(store: ArtifactStore, key: str) -> str:
    """Of which songs lie in one shard, in which order, whatever its name."""
    index = read_index(store.fetch("shards", key)).sort_by([("shard", "ascending"), ("offset", "ascending")])
    shards: dict[str, list[str]] = {}
    for track, shard in zip(index["track_id"].to_pylist(), index["shard"].to_pylist(), strict=True):
        shards.setdefault(shard, []).append(track)
    return _hash(map(repr, shards.values()))


def _mels_hash(store: ArtifactStore, key: str) -> str:
    """Of the songs of the index and the log-mels that it points to, which are read."""
    index = read_index(store.fetch("shards", key))
    reader = ShardReader(shard_folder(store.workspace), index)
    mels = reader.read(np.arange(len(index)))
    songs = index.select(["track_id", "split_group", "split"]).to_pylist()
    return _hash(f"{song} {_bytes(mel)}" for song, mel in zip(songs, mels, strict=True))


def _parquet(folder: Path) -> pa.Table:
    return ds.dataset(sorted(map(str, folder.rglob("*.parquet")))).to_table()


def _bytes(values: np.ndarray | None) -> str:
    if values is None:
        return "none"
    kind = np.float32 if values.dtype.kind == "f" else values.dtype
    return hashlib.sha256(np.ascontiguousarray(values, kind).tobytes()).hexdigest()


def _hash(rows: Iterable[str]) -> str:
    found = sorted(rows)
    whole = hashlib.sha256("\n".join(found).encode()).hexdigest()
    return f"{len(found)} {whole[:16]}"
