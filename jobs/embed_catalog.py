"""Embed every song of the shards with the models of both stages, by streaming whole shards.

Only songs that a model has not embedded yet are computed. The embeddings table gets all new rows of a model
in one transaction.

    spark-submit jobs/embed_catalog.py --config CONFIG [--champion KEY [--no-fine-tune]]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from session import job_parser, run_job, spark_session, stage_progress

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.ingest.catalog import read_catalog
from htcl.logs import get_logger, log
from htcl.plan import plan
from htcl.schemas import embeddings_schema
from htcl.shards.index import read_index, rows_of
from htcl.tables import GrowingTable
from htcl.text import metadata_text, model_text_fields, text_hash

LOGGER = get_logger("embeddings")


def main(config: PipelineConfig, arguments: argparse.Namespace) -> None:
    """Embed what is missing for both models and publish the embeddings artifact."""
    step = plan(config, arguments.champion, not arguments.no_fine_tune, arguments.inputs)["embeddings"]
    if step.published:
        log(LOGGER, "already published", key=step.key)
        return
    store = ArtifactStore(config.workspace)
    inputs = step.recipe.inputs
    songs = _songs(store, inputs)
    with spark_session(config, "embed_catalog") as spark, store.create(step.recipe) as draft:
        for stage in ("stage1", "stage2"):
            folder = store.fetch(stage, inputs[stage])
            draft.figures[stage] = _embed(spark, config, stage, inputs[stage], folder, songs)
        table = GrowingTable(config.workspace, "embeddings", embeddings_schema(1), partition_by="model_id")
        draft.tables = {"embeddings": table.version()}


def _songs(store: ArtifactStore, inputs: dict[str, str]) -> pa.Table:
    """Index rows with the text that the model reads and its hash."""
    index = read_index(store.fetch("shards", inputs["shards"]))
    fields = model_text_fields(store.fetch("stage2", inputs["stage2"]))
    catalog = read_catalog(store.fetch("catalog", inputs["catalog"]), list(dict.fromkeys(["track_id", *fields])))
    described = catalog.take(pa.array(rows_of(catalog, index["track_id"]))).select(fields).to_pylist()
    texts = [metadata_text(row, fields) for row in described]
    songs = index.select(["track_id", "shard", "content_hash"]).append_column("text", pa.array(texts, pa.string()))
    return songs.append_column("text_hash", pa.array([text_hash(text) for text in texts], pa.string()))


def _embed(
    spark: SparkSession, config: PipelineConfig, stage: str, model_id: str, folder: Path, songs: pa.Table
) -> dict[str, Any]:
    """Add one model's missing rows to the table; rows that no longer stand for a song go with it."""
    started = time.monotonic()
    schema = _schema(folder)
    table = GrowingTable(config.workspace, "embeddings", schema, partition_by="model_id")
    base = table.version()
    current = table.read(filter_=pc.field("model_id") == model_id)
    identity = ["track_id", "content_hash"] + (["text_hash"] if stage == "stage2" else [])
    kept = current.filter(pc.is_in(_joined(current, identity), value_set=_joined(songs, identity)))
    todo = songs.filter(pc.invert(pc.is_in(songs["track_id"], value_set=kept["track_id"])))
    figures = {"songs": len(songs), "embedded": len(todo), "kept": len(kept)}
    if len(todo):
        shards = storage.join(config.workspace, "shards")
        tasks = max(1, min(len(pc.unique(todo["shard"])), 8 * spark.sparkContext.defaultParallelism))
        frame = spark.createDataFrame(todo).repartition(tasks, "shard").sortWithinPartitions("shard")
        embed = _embedder(str(folder), shards, model_id, stage == "stage2", config.embedding.batch_size)
        target = table.new_folder()
        with stage_progress(spark, LOGGER, f"embed {stage}"):
            rows = frame.mapInArrow(embed, from_arrow_schema(_BLOCK))
            if len(kept) < len(current) and len(kept):
                rows = rows.unionByName(spark.createDataFrame(kept.select(_COLUMNS)))
            rows.write.parquet(storage.join(target, f"model_id={model_id}"))
        table.commit(target, replace=[model_id] if len(kept) < len(current) else False, base=base)
    elif len(kept) < len(current):
        table.replace_rows(kept, replace=[model_id], base=base)
    seconds = time.monotonic() - started
    log(LOGGER, "embedded", stage=stage, model=model_id, seconds=seconds, **figures)
    return {**figures, "seconds": round(seconds, 1)}


_COLUMNS = ["track_id", "embedding", "fusion_embedding", "content_hash", "text_hash"]


def _joined(table: pa.Table, columns: list[str]) -> Any:
    """The values of some text columns as one text a row."""
    return pc.binary_join_element_wise(*(table[name] for name in columns), "\n")


def _schema(folder: Path) -> pa.Schema:
    return embeddings_schema(int(json.loads((folder / "config.json").read_text())["projection_sizes"][-1]))


def _embedder(folder: str, shards: str, model_id: str, fused: bool, batch_size: int) -> Any:
    def embed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import torch

        from htcl.embedding import SongEmbedder

        torch.set_num_threads(1)  # Spark runs one task a core
        received = list(batches)
        if not received:
            return
        table = pa.Table.from_batches(received)
        embedder = SongEmbedder.load(folder, model_id)
        for shard in pc.unique(table["shard"]).to_pylist():
            wanted = {row["track_id"]: row for row in table.filter(pc.equal(table["shard"], shard)).to_pylist()}
            for block in embedder.embed_shard(storage.join(shards, shard), wanted, fused, batch_size):
                yield pa.RecordBatch.from_pylist(block, schema=_BLOCK)

    return embed


_BLOCK = pa.schema(
    [
        ("track_id", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("fusion_embedding", pa.list_(pa.float32())),
        ("content_hash", pa.string()),
        ("text_hash", pa.string()),
    ]
)


if __name__ == "__main__":
    parser = job_parser(__doc__ or "")
    parser.add_argument("--champion", help="stage-2 key to build on instead of a model trained from the start")
    parser.add_argument("--no-fine-tune", action="store_true", help="embed with the champion itself")
    run_job(parser, main)
