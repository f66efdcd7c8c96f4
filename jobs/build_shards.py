"""Decode audio to log-mels and write them as WebDataset shards with an index.

Only new or changed audio is decoded. Refused files land in the rejects table with a reason.

    spark-submit jobs/build_shards.py --config CONFIG
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from session import job_parser, run_job, spark_session, stage_progress

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.config import AudioConfig, PipelineConfig, fingerprint
from htcl.errors import HTCLError
from htcl.ingest.catalog import read_catalog
from htcl.ingest.rejects import check_reject_share
from htcl.logs import get_logger, log
from htcl.plan import Step, audio_root, plan
from htcl.schemas import SHARDS
from htcl.shards.index import write_index
from htcl.tables import GrowingTable, replace_rejects

LOGGER = get_logger("shards")


def main(config: PipelineConfig, arguments: argparse.Namespace) -> None:
    """Bring shards, index table and rejects up to the catalog; publish the shards artifact."""
    step = plan(config, inputs=arguments.inputs)["shards"]
    if step.published:
        log(LOGGER, "already published", key=step.key)
        return
    store = ArtifactStore(config.workspace)
    catalog = read_catalog(store.fetch("catalog", step.recipe.inputs["catalog"]))
    table = GrowingTable(config.workspace, "shards", SHARDS)
    wanted = _wanted(config, catalog)
    base = table.version()
    current = table.read()
    kept = _up_to_date(config, current, wanted)
    todo = wanted.filter(pc.invert(pc.is_in(wanted["track_id"], value_set=kept["track_id"])))
    log(LOGGER, "catalog against index", tracks=len(wanted), kept=len(kept), to_decode=len(todo))
    with spark_session(config, "build_shards") as spark:
        _build(spark, config, store, step, Index(table, base, current, kept), todo)


@dataclass(frozen=True)
class Index:
    """The index table as it was found.

    Attributes:
        table: the growing table.
        base: its version; -1 before the first commit.
        current: its rows.
        kept: those that stand for the catalog as it is, with the split of today.
    """

    table: GrowingTable
    base: int
    current: pa.Table
    kept: pa.Table

    @property
    def stale(self) -> bool:
        """Whether rows have to go or to change."""
        order = [("track_id", "ascending")]
        return not self.kept.sort_by(order).equals(self.current.sort_by(order))


def _build(
    spark: SparkSession, config: PipelineConfig, store: ArtifactStore, step: Step, index: Index, todo: pa.Table
) -> None:
    started = time.monotonic()
    with store.create(step.recipe) as draft:
        results = _decode(spark, config, todo)
        rejects = results.where("reason is not null")
        rows = rejects.select(F.col("track_id").alias("key"), "reason", "detail").toPandas().to_dict("records")
        replace_rejects(config.workspace, "audio", rows)
        reasons = _counts(rejects, "reason")
        check_reject_share(reasons, len(index.kept) + len(todo), config.audio.max_reject_share, "audio")
        added = _commit(spark, index, results, todo)
        version = index.table.version()
        listed = index.table.read(version)
        if not len(listed):
            raise HTCLError("audio: no file of the catalog could be decoded; see the rejects table for the reasons")
        write_index(listed, draft.path)
        frames = int(pc.sum(listed["frames"]).as_py())
        seconds = frames * config.audio.hop_length / config.audio.sample_rate
        draft.figures = {
            "tracks": len(listed),
            "decoded": added,
            "kept": len(index.kept),
            "rejects": reasons,
            "warnings": _counts(results.where("warning is not null"), "warning"),
            "shards": len(pc.unique(listed["shard"])),
            "audio_hours": round(seconds / 3600, 2),
            "bytes": int(pc.sum(listed["size"]).as_py()),
        }
        draft.tables = {"shards": version}
        log(LOGGER, "shards published", seconds=time.monotonic() - started, **draft.figures)


def _counts(rows: DataFrame, column: str) -> dict[str, int]:
    return {row[column]: row["count"] for row in rows.groupBy(column).count().collect()}


def _wanted(config: PipelineConfig, catalog: pa.Table) -> pa.Table:
    """Catalog rows with a tag that changes when the track's log-mel would."""
    tags = storage.list_files(audio_root(config))
    settings = fingerprint(config.audio.model_dump(exclude={"max_reject_share"}))
    paths = [str(PurePath(path)) for path in catalog["audio_path"].to_pylist()]
    source_tags = [fingerprint([path, tags.get(path), settings]) for path in paths]
    return catalog.append_column("source_tag", pa.array(source_tags, pa.string()))


def _up_to_date(config: PipelineConfig, index: pa.Table, wanted: pa.Table) -> pa.Table:
    """Index rows that stand for the catalog as it is and whose shard is there, one a track, with today's split."""
    folder = storage.join(config.workspace, "shards")
    present = list(storage.list_files(folder)) if storage.exists(folder) else []
    there = index.filter(pc.is_in(index["shard"], value_set=pa.array(present, pa.string())))
    once = there.group_by("track_id", use_threads=False).aggregate(
        [(name, "first") for name in SHARDS.names if name not in ("track_id", *_OF_THE_CATALOG)]
    )
    once = once.rename_columns([name.removesuffix("_first") for name in once.column_names])
    today = wanted.select(["track_id", "source_tag", *_OF_THE_CATALOG])
    return once.join(today, ["track_id", "source_tag"], join_type="inner").select(SHARDS.names).cast(SHARDS)


_OF_THE_CATALOG = ("split_group", "split")


def _decode(spark: SparkSession, config: PipelineConfig, todo: pa.Table) -> DataFrame:
    """Run the decoding once and keep its small result (no audio) as a local checkpoint."""
    columns = ["track_id", "audio_path", "duration_s"]
    tasks = max(1, min(len(todo) // 16, 4 * spark.sparkContext.defaultParallelism))
    frame = spark.createDataFrame(todo.select(columns)) if len(todo) else spark.createDataFrame([], _TODO)
    decode = _decoder(audio_root(config), storage.join(config.workspace, "shards"), config)
    result = frame.repartition(tasks).mapInArrow(decode, from_arrow_schema(_RESULT_SCHEMA))
    with stage_progress(spark, LOGGER, "decode"):
        return result.localCheckpoint(eager=True)


_TODO = "track_id string, audio_path string, duration_s float"


def _decoder(root: str, folder: str, config: PipelineConfig) -> Any:
    audio, max_bytes = config.audio, int(config.shards.max_mb * 1e6)

    def decode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from dataclasses import asdict

        import torch

        from htcl.shards.writer import ShardWriter

        torch.set_num_threads(1)  # Spark runs one task a core
        writer = ShardWriter(folder, max_bytes)
        for batch in batches:
            rows: list[dict[str, Any]] = []
            for track in batch.to_pylist():
                mel, notes = _log_mel(root, track, audio)
                rows += notes
                if mel is not None:
                    rows += [asdict(entry) for entry in writer.add(track["track_id"], mel)]
            yield _result_batch(rows)
        yield _result_batch([asdict(entry) for entry in writer.close()])

    return decode


def _log_mel(root: str, track: dict[str, Any], audio: AudioConfig) -> tuple[Any, list[dict[str, Any]]]:
    """The track's log-mel (None where it is refused), and result rows for its refusal or its warnings."""
    from htcl.audio.decode import AudioRejected, decode_audio, resolve_audio_path
    from htcl.audio.features import log_mel

    try:
        decoded = decode_audio(
            resolve_audio_path(root, track["audio_path"]),
            sample_rate=audio.sample_rate,
            max_seconds=audio.max_seconds,
            min_seconds=audio.min_seconds,
            expected_seconds=track["duration_s"],
        )
    except AudioRejected as error:
        detail = f"{track['audio_path']}: {error.detail}"
        return None, [{"track_id": track["track_id"], "reason": str(error.reason), "detail": detail}]
    mel = log_mel(
        decoded.samples,
        sample_rate=audio.sample_rate,
        n_mels=audio.n_mels,
        n_fft=audio.n_fft,
        hop_length=audio.hop_length,
        top_db=audio.top_db,
    )
    return mel, [{"track_id": track["track_id"], "warning": text.partition(":")[0]} for text in decoded.warnings]


_RESULT_SCHEMA = pa.schema(
    [
        ("track_id", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("frames", pa.int32()),
        ("content_hash", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("warning", pa.string()),
    ]
)
"""A row for each track in a shard, each refusal and each warning."""


def _result_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=_RESULT_SCHEMA)


def _commit(spark: SparkSession, index: Index, results: DataFrame, todo: pa.Table) -> int:
    """Add the new rows in one transaction; rows that no longer stand for the catalog go with it."""
    if not len(todo):
        if index.stale:
            index.table.replace_rows(index.kept, base=index.base)
        return 0
    facts = spark.createDataFrame(todo.select(["track_id", "source_tag", *_OF_THE_CATALOG]))
    done = results.where("shard is not null").drop("reason", "detail", "warning")
    done = done.join(facts, "track_id").select(*SHARDS.names)
    added = done.count()
    if index.stale and len(index.kept):
        done = done.unionByName(spark.createDataFrame(index.kept))
    folder = index.table.new_folder()
    done.coalesce(1).write.parquet(folder)
    index.table.commit(folder, replace=index.stale, base=index.base)
    return added


if __name__ == "__main__":
    run_job(job_parser(__doc__ or ""), main)
