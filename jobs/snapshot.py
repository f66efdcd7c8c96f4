"""Daily counts to a window snapshot: sums by kernel; marginals, scores, thresholds, top-K and splits in Spark SQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from frames import catalog_frame, songs_frame, write_frame
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from scoring import Totals, scored_pairs, window_songs
from selection import selected_pairs, unordered
from session import stage_progress
from snapshot_figures import pair_figures, song_figures, window_figures, write_quality

from htcl.artifacts import Draft
from htcl.config import PairsConfig, PipelineConfig
from htcl.errors import HTCLError
from htcl.logs import get_logger
from htcl.pairs import KNOWN_FOLDER, PAIRS_FOLDER, POPULARITY_FOLDER
from htcl.pairs.store import fewest_buckets, in_bucket, pair_table
from htcl.pairs.window import ALL, SUMS, Window, day_totals, sum_bucket
from htcl.parts import Part
from htcl.schemas import PAIRS

LOGGER = get_logger("pairs")


def take_snapshot(
    spark: SparkSession, config: PipelineConfig, inputs: dict[str, str], version: int, draft: Draft
) -> None:
    """Write the pairs of the window, the popularity of songs in its training part, and what the log looked like.

    Args:
        spark: the session.
        config: reads `pairs`, `split` and `interactions`.
        inputs: keys of the artifacts `catalog` and `shards`.
        version: of the table pair_counts.
        draft: the artifact; gets `pairs/`, `known/`, `popularity/` and `quality/` (Parquet), and figures.

    Raises:
        HTCLError: when no pair has enough users, or the catalog lacks too many of the songs.
    """
    parts = pair_table(config.workspace).parts(version)
    with stage_progress(spark, LOGGER, "snapshot"):
        window = _window(spark, config, parts)
        sums = _kept(_sums(spark, window, parts))
        totals, counted = _totals(sums)
        songs = _kept(window_songs(sums, songs_frame(spark, config.workspace, inputs["shards"])))
        scored = _kept(scored_pairs(sums, songs, totals, config.pairs))
        artists = catalog_frame(spark, config.workspace, inputs["catalog"], ["track_id", "artist"])
        pairs = _kept(selected_pairs(scored, artists, config.pairs).select(*PAIRS.names))
        known = scored.where("split = 'train'").select(*unordered()).distinct().toDF(*KNOWN.names)
        heard = songs.where("split = 'train' and baskets_before is not null")
        heard = heard.select("track_id", F.col("baskets_before").alias("n_baskets"))
        for frame, below, schema in (
            (pairs, PAIRS_FOLDER, PAIRS),
            (known, KNOWN_FOLDER, KNOWN),
            (heard, POPULARITY_FOLDER, POPULARITY),
        ):
            draft.parts += write_frame(frame, draft.uri, below, schema)
        log_figures, days = window_figures(config, window)
        of_pairs, degrees = pair_figures(pairs)
        draft.figures = {"first_day": window.first, "newest_day": window.newest, "cutoff_day": window.cutoff}
        draft.figures["pairs_counted"] = counted
        draft.figures |= {**log_figures, **of_pairs, **song_figures(config, songs)}
        write_quality(draft, days, degrees)
    _check_pairs(draft.figures, config.pairs)


KNOWN = pa.schema([PAIRS.field("anchor_id"), PAIRS.field("positive_id")])
POPULARITY = pa.schema([pa.field("track_id", pa.string(), nullable=False), pa.field("n_baskets", pa.int64())])


def _kept(frame: DataFrame) -> DataFrame:
    """A frame that is worked out once; what an executor that dies takes along is worked out again."""
    return frame.persist(StorageLevel.MEMORY_AND_DISK)


def _check_pairs(figures: dict[str, Any], config: PairsConfig) -> None:
    if not figures["pairs_by_split"].get("train"):
        raise HTCLError(
            f"pairs: none of {figures['pairs_counted']} pairs with {config.min_users} users has songs of the shards "
            f"and a lift above {config.min_lift:g} in training; lower pairs.min_users or pairs.min_lift, or give more "
            "days of log"
        )


def _window(spark: SparkSession, config: PipelineConfig, parts: list[Part]) -> Window:
    """The days of the window and where they are cut, by the songs in baskets of each day."""
    workspace = config.workspace
    slices = max(1, min(len(parts), 4 * spark.sparkContext.defaultParallelism))

    def count(found: Iterator[Part]) -> Iterator[dict[str, int]]:
        yield day_totals(workspace, found)

    totals: dict[str, int] = {}
    for part in spark.sparkContext.parallelize(parts, slices).mapPartitions(count).collect():
        for day, n in part.items():
            totals[day] = totals.get(day, 0) + n
    heard = sorted((day, n) for day, n in totals.items() if n)
    if not heard:
        raise HTCLError("pairs: no day of the log has a positive response; see interactions.positive")
    pairs, newest = config.pairs, heard[-1][0]
    first = max(_first_day(newest, pairs.window_days), str(pairs.first_day or ""))
    if first > newest:
        raise HTCLError(f"pairs.first_day = {first} lies after the newest day of the log, {newest}")
    cutoff = str(config.split.cutoff_day or _cutoff(heard, first, config.split.warm_test_share))
    if config.split.cutoff_day and not first < cutoff <= newest:
        raise HTCLError(
            f"split.cutoff_day = {cutoff} leaves one side without days: those that count reach from {first} to {newest}"
        )
    symmetric = tuple(pairs.symmetric_sources)
    return Window(workspace, first, newest, cutoff, pairs.half_life_days, pairs.min_users, symmetric)


def _first_day(newest: str, window_days: int | None) -> str:
    if window_days is None:
        return "0001-01-01"
    return str(dt.date.fromisoformat(newest) - dt.timedelta(days=window_days - 1))


def _cutoff(days: list[tuple[str, int]], first: str, share: float) -> str:
    """The day from which on baskets are kept for warm test pairs: the newest `share` of them."""
    inside = [(day, n) for day, n in days if day >= first]
    left = sum(n for _, n in inside) * share
    for day, n in reversed(inside):
        left -= n
        if left < 0:
            return str(dt.date.fromisoformat(day) + dt.timedelta(days=1))
    return inside[0][0]


def _sums(spark: SparkSession, window: Window, parts: list[Part]) -> DataFrame:
    """Sums of the window, a task for each bucket."""
    inside = window.inside(parts)
    buckets = fewest_buckets(inside)
    shares = [[part for part in inside if in_bucket(part, bucket, buckets)] for bucket in range(buckets)]
    handed = spark.sparkContext.broadcast(shares)

    def add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for bucket in batch.column(0).to_pylist():
                yield from sum_bucket(window, handed.value[bucket]).to_batches(20_000)

    return spark.range(0, buckets, 1, buckets).mapInArrow(add, from_arrow_schema(SUMS))


def _totals(sums: DataFrame) -> tuple[Totals, int]:
    """Baskets and mean baskets of a song in each part of the window, and how many pairs the whole window has."""
    item = F.col("source") == "item"
    # A basket of n songs gives each 1/n, so the shares add up to the number of baskets.
    shares, mean = F.sum(F.when(item, F.col("weight"))), F.avg(F.when(item, F.col("n")))
    rows = sums.groupBy("period").agg(shares.alias("baskets"), mean.alias("mean"), F.count_if(~item).alias("pairs"))
    found = {row["period"]: row for row in rows.collect()}
    totals = {period: (row["baskets"] or 0.0, row["mean"] or 0.0) for period, row in found.items()}
    return totals, found[ALL]["pairs"]
