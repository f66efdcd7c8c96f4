"""Turn the interaction log into daily pair counts and a window snapshot of co-preference pairs.

Without a range all days are counted and a snapshot is published. With --start and --end only those days of the
tables are counted again, in one transaction, and no snapshot is taken.

    spark-submit jobs/mine_pairs.py --config CONFIG [--start DAY --end DAY]
"""

from __future__ import annotations

import argparse
import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from counting import count_log
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from session import job_parser, run_job, spark_session
from snapshot import MERGED_SKETCH, take_snapshot

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.ingest.catalog import CATALOG_FILE
from htcl.ingest.rejects import check_reject_share
from htcl.logs import get_logger, log
from htcl.plan import Step, plan
from htcl.schemas import ITEM_COUNTS, PAIR_COUNTS, REJECTS
from htcl.storage import join
from htcl.tables import GrowingTable

LOGGER = get_logger("pairs")


def main(config: PipelineConfig, arguments: argparse.Namespace) -> None:
    """Count the log, then publish a snapshot (all days) or stop there (a range of days)."""
    step = plan(config, inputs=arguments.inputs)["pairs"]
    days = _day_range(arguments.start, arguments.end)
    if step.published and not days:
        log(LOGGER, "already published", key=step.key)
        return
    store = ArtifactStore(config.workspace)
    catalog_key = step.recipe.inputs["catalog"]
    store.manifest("catalog", catalog_key)  # not there yet: one sentence now rather than Spark's later
    catalog_uri = join(store.uri("catalog", catalog_key), CATALOG_FILE)
    with spark_session(config, "mine_pairs") as spark:
        catalog = spark.read.parquet(catalog_uri)
        counted = count_log(spark, config, catalog, days)
        figures = _commit_counts(config, counted, days)
        if not days:
            _publish_snapshot(spark, config, store, step, catalog, figures)


def _day_range(start: str | None, end: str | None) -> list[str]:
    """Every day from start to end, both included; empty where no range was given."""
    if not start and not end:
        return []
    try:
        first, last = dt.date.fromisoformat(start or end or ""), dt.date.fromisoformat(end or start or "")
    except ValueError as error:
        raise HTCLError(f"--start and --end are days such as 2025-03-31: {error}") from None
    if last < first:
        raise HTCLError(f"--start {first} lies after --end {last}")
    return [str(first + dt.timedelta(days=n)) for n in range((last - first).days + 1)]


def _commit_counts(config: PipelineConfig, counted: DataFrame, days: list[str]) -> dict[str, Any]:
    """Check what the counting refused, then commit counts and rejects."""
    counted.persist()
    figures = {
        row["key"]: row["value"]
        for row in counted.where("kind = 'stat'").groupBy("key").agg(F.sum("n_baskets").alias("value")).collect()
    }
    figures = {name: int(figures.get(name, 0)) for name in ("events", "positive_events", "users", "baskets")}
    _commit_rejects(config, counted, days, figures)
    if not figures["positive_events"] and not days:
        raise HTCLError(
            f"interactions: none of {figures['events']} events is a positive response by interactions.positive "
            f"({', '.join(config.interactions.positive)}); map your event types there"
        )
    ids = ["dt", "anchor_id", "positive_id", "source"]
    pairs = (
        counted.where("kind = 'pair'")
        .groupBy(*ids)
        .agg(
            F.sum("n_baskets").alias("n_baskets"),
            F.sum("weight").alias("weight"),
            F.expr(MERGED_SKETCH).alias("users"),
        )
    )
    items = (
        counted.where("kind = 'item'")
        .groupBy("dt", F.col("anchor_id").alias("track_id"))
        .agg(F.sum("n_baskets").alias("n_baskets"), F.sum("weight").alias("weight"))
    )
    figures["pair_counts"] = _commit(config, "pair_counts", PAIR_COUNTS, pairs, days)
    figures["item_counts"] = _commit(config, "item_counts", ITEM_COUNTS, items, days)
    counted.unpersist()
    log(LOGGER, "log counted", days=len(days) or "all", **{k: v for k, v in figures.items() if k != "rejects"})
    return figures


def _commit(config: PipelineConfig, name: str, schema: pa.Schema, rows: DataFrame, days: list[str]) -> int:
    table = GrowingTable(config.workspace, name, schema, partition_by="dt")
    folder = table.new_folder()
    rows.repartition("dt").sortWithinPartitions("dt").select(*schema.names).write.partitionBy("dt").parquet(folder)
    return table.commit(folder, replace=days or True)


def _commit_rejects(config: PipelineConfig, counted: DataFrame, days: list[str], figures: dict[str, Any]) -> None:
    rejects = counted.where("kind = 'reject'").select("key", "reason", "detail", "dt")
    reasons = {row["reason"]: row["count"] for row in rejects.groupBy("reason").count().collect()}
    table = GrowingTable(config.workspace, "rejects", REJECTS, partition_by="source")
    folder = table.new_folder()
    if days:
        other = table.read(filter_=pc.field("source") == "interactions").to_pylist()
        other = [row for row in other if row["dt"] not in set(days)]
        if other:
            rejects = rejects.unionByName(
                counted.sparkSession.createDataFrame(pa.Table.from_pylist(other, REJECTS).select(rejects.columns))
            )
    rejects.coalesce(1).write.parquet(join(folder, "source=interactions"))
    table.commit(folder, replace=["interactions"])
    figures["rejects"] = reasons
    check_reject_share(reasons, figures["events"], config.interactions.max_reject_share, "interactions")


def _publish_snapshot(
    spark: SparkSession,
    config: PipelineConfig,
    store: ArtifactStore,
    step: Step,
    catalog: DataFrame,
    figures: dict[str, Any],
) -> None:
    started = time.monotonic()
    versions = {name: figures.pop(name) for name in ("pair_counts", "item_counts")}
    read: Callable[..., DataFrame] = spark.read.option("basePath", join(config.workspace, "tables")).parquet
    tables = {}
    for name, schema in (("pair_counts", PAIR_COUNTS), ("item_counts", ITEM_COUNTS)):
        uris = GrowingTable(config.workspace, name, schema, partition_by="dt").file_uris(versions[name])
        typed = read(*uris).withColumn("dt", F.col("dt").cast("string"))
        tables[name] = typed.select(*schema.names)
    with store.create(step.recipe) as draft:
        figures |= take_snapshot(config, tables["pair_counts"], tables["item_counts"], catalog, draft.path)
        draft.figures, draft.tables = figures, versions
    log(LOGGER, "pairs published", seconds=time.monotonic() - started, pairs=figures["pairs"])


if __name__ == "__main__":
    parser = job_parser(__doc__ or "")
    parser.add_argument("--start", help="first day to count again, YYYY-MM-DD")
    parser.add_argument("--end", help="last day to count again, YYYY-MM-DD")
    run_job(parser, main)
