"""Daily counts to a window snapshot: sums by kernel; marginals, scores, thresholds, top-K and splits in Spark SQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from frames import catalog_frame, songs_frame, write_frame
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from session import stage_progress
from snapshot_figures import song_figures, window_figures

from htcl.artifacts import Draft
from htcl.config import PairsConfig, PipelineConfig
from htcl.errors import HTCLError
from htcl.logs import get_logger
from htcl.pairs import KNOWN_FOLDER, PAIRS_FOLDER, POPULARITY_FOLDER
from htcl.pairs.store import fewest_buckets, pair_table
from htcl.pairs.window import SUMS, day_totals, sum_bucket
from htcl.pairs.window import Window as Days
from htcl.parts import Part
from htcl.schemas import PAIRS

LOGGER = get_logger("pairs")

_ROUNDING = 1e-5
"""Of the shares, whose sum is the number of baskets: a lift of exactly `min_lift` is not above it."""


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

    Top-K bounds what is trained on. Held-out pairs are the answers of the evaluation and stay whole.

    Raises:
        HTCLError: when no pair has enough users, or the catalog lacks too many of the songs.
    """
    days = _window(spark, config, version)
    sums = _sums(spark, days)
    sums.persist(StorageLevel.MEMORY_AND_DISK)
    with stage_progress(spark, LOGGER, "snapshot"):
        songs = songs_frame(spark, config.workspace, inputs["shards"]).persist(StorageLevel.MEMORY_AND_DISK)
        artists = catalog_frame(spark, config.workspace, inputs["catalog"], ["track_id", "artist"])
        scored = _score(_by_split(_directed(sums, config.pairs), songs), _items_by_split(sums), config.pairs)
        scored.persist(StorageLevel.MEMORY_AND_DISK)
        pairs = _write(scored, sums, songs, artists, config, draft)
        counted = sums.where("period = 'all' and source != 'item'").count()
        draft.figures = {"newest_day": days.newest, "cutoff_day": days.cutoff, "pairs_counted": counted}
        draft.figures |= window_figures(config, days, draft) | song_figures(config, sums, pairs, songs)
    _check_pairs(draft.figures, config.pairs)


def _check_pairs(figures: dict[str, Any], config: PairsConfig) -> None:
    if not figures["pairs_by_split"].get("train"):
        raise HTCLError(
            f"pairs: none of {figures['pairs_counted']} pairs with {config.min_users} users has songs of the shards "
            f"and a lift above {config.min_lift:g} in training; lower pairs.min_users or pairs.min_lift, or give more "
            "days of log"
        )


def _window(spark: SparkSession, config: PipelineConfig, version: int) -> Days:
    """The days of the window and where they are cut, by the songs in baskets of each day."""
    workspace = config.workspace
    parts = pair_table(workspace).parts(version)
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
    newest = heard[-1][0]
    first = _first_day(newest, config.pairs.window_days)
    cutoff = _cutoff(heard, first, config.split.warm_test_share)
    pairs = config.pairs
    symmetric = tuple(pairs.symmetric_sources)
    return Days(workspace, version, first, newest, cutoff, pairs.half_life_days, pairs.min_users, symmetric)


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


def _sums(spark: SparkSession, days: Days) -> DataFrame:
    """Sums of the window, a task for each bucket."""
    buckets = fewest_buckets(days.parts())

    def add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for bucket in batch.column(0).to_pylist():
                yield from sum_bucket(days, bucket, buckets).to_batches(20_000)

    return spark.range(0, buckets, 1, buckets).mapInArrow(add, from_arrow_schema(SUMS))


def _directed(sums: DataFrame, config: PairsConfig) -> DataFrame:
    """Pairs by anchor and positive: those of a symmetric source both ways."""
    pairs = sums.where("source != 'item'")
    both = pairs.where(F.col("source").isin(config.symmetric_sources) & (F.col("anchor_id") != F.col("positive_id")))
    turned = {"anchor_id": F.col("positive_id"), "positive_id": F.col("anchor_id")}
    return pairs.unionByName(both.withColumns(turned))


def _by_split(pairs: DataFrame, songs: DataFrame) -> DataFrame:
    """The sums of the split that a pair belongs to: test wins over validation; training songs are cut in time."""
    side = songs.select("track_id", "split")
    joined = pairs.join(side.withColumnsRenamed({"track_id": "anchor_id", "split": "a"}), "anchor_id").join(
        side.withColumnsRenamed({"track_id": "positive_id", "split": "b"}), "positive_id"
    )
    whole = F.col("period") == "all"
    split = (
        F.when((F.col("a") == "test") | (F.col("b") == "test"), F.when(whole, "test_cold"))
        .when((F.col("a") == "validation") | (F.col("b") == "validation"), F.when(whole, "validation"))
        .when(F.col("period") == "before", "train")
        .when(F.col("period") == "after", "test_warm")
    )
    return joined.withColumn("split", split).where("split is not null").drop("a", "b", "period")


def _items_by_split(sums: DataFrame) -> DataFrame:
    """The marginals of each split: cold and validation pairs come from all days, the others from their part."""
    splits = (
        F.when(F.col("period") == "all", F.array(F.lit("test_cold"), F.lit("validation")))
        .when(F.col("period") == "before", F.array(F.lit("train")))
        .otherwise(F.array(F.lit("test_warm")))
    )
    items = sums.where("source = 'item'").withColumn("split", F.explode(splits))
    return items.select("split", F.col("anchor_id").alias("track_id"), "n", F.col("weight").alias("share"))


def _score(pairs: DataFrame, items: DataFrame, config: PairsConfig) -> DataFrame:
    """Drop pairs without a positive response or no lift, score what is left."""
    # A basket of n songs gives each 1/n, so the shares add up to the number of baskets.
    totals = items.groupBy("split").agg(F.sum("share").alias("baskets"), F.avg("n").alias("mean"))
    marginal = items.drop("share")
    left = marginal.withColumnsRenamed({"track_id": "anchor_id", "n": "n_a"})
    right = marginal.withColumnsRenamed({"track_id": "positive_id", "n": "n_b"})
    joined = pairs.where("n > 0")
    joined = joined.join(left, ["split", "anchor_id"], "left").join(right, ["split", "positive_id"], "left")
    # A trigger song need not stand in any positive basket itself; a pair never counts more than its songs.
    for column in ("n_a", "n_b"):
        joined = joined.withColumn(column, F.greatest(F.coalesce(column, F.lit(0.0)), F.col("n")))
    joined = joined.join(F.broadcast(totals), "split")
    # Songs that everybody plays meet by chance; a recommendation that pleased is no chance.
    lift = F.col("n") * F.col("baskets") / (F.col("n_a") * F.col("n_b"))
    above = lift > config.min_lift * (1 + _ROUNDING)
    kept = joined.where((F.col("source") != "copreference") | above).withColumn("rate", _rate())
    return kept.withColumn("score", F.coalesce("rate", _formula(config.score)))


def _rate() -> Column:
    """Positive responses of triggered pairs per time that the song was shown, or else judged; null without either."""
    shown, judged = F.col("n_impressions"), F.col("n") + F.col("n_negative")
    tries = F.when(shown > 0, F.greatest(shown, judged)).when(F.col("n_negative") > 0, judged)
    return F.when(F.col("source") == "triggered", F.col("n") / tries)


def _formula(score: str) -> Column:
    """Scores over the baskets of a split: n of the pair, n_a and n_b of its songs, mean n of a song."""
    n, n_a, n_b, baskets = F.col("n"), F.col("n_a"), F.col("n_b"), F.col("baskets")
    if score == "count":
        return n
    if score == "cosine":
        return n / F.sqrt(n_a * n_b)
    if score == "npmi":  # a pair that stands in every basket has the limit 1
        pointwise = F.log(n * baskets / (n_a * n_b)) / -F.log(n / baskets)
        return F.when(n >= baskets, F.lit(1.0)).otherwise(pointwise)
    k1, b = 1.2, 0.75  # the usual constants of BM25
    idf = F.log(F.lit(1.0) + (baskets - n_b + 0.5) / (n_b + 0.5))  # never negative, as in Lucene
    return idf * n * (k1 + 1) / (n + k1 * (1 - b + b * n_a / F.col("mean")))


def _top(pairs: DataFrame, artists: DataFrame, config: PairsConfig) -> DataFrame:
    """The best positives of each anchor, of its own artist at most a share of them."""
    by = ["anchor_id", "source", "split"]
    order = [F.desc("score"), F.asc("positive_id")]
    if config.max_artist_share < 1:
        pairs = _artist_bounded(pairs, artists, config, by, order)
    rank = F.row_number().over(Window.partitionBy(*by).orderBy(*order))
    return pairs.withColumn("_rank", rank).where(F.col("_rank") <= config.top_k).drop("_rank")


def _artist_bounded(
    pairs: DataFrame, artists: DataFrame, config: PairsConfig, by: list[str], order: list[Column]
) -> DataFrame:
    """Without the worst positives of the anchor's own artist, as many as are above their share."""
    for end in ("anchor", "positive"):
        named = artists.withColumnsRenamed({"track_id": f"{end}_id", "artist": f"_{end}_artist"})
        pairs = pairs.join(named, f"{end}_id", "left")
    own = F.coalesce(F.col("_anchor_artist") == F.col("_positive_artist"), F.lit(False))
    pairs = pairs.withColumn("_own", own).drop("_anchor_artist", "_positive_artist")
    rank = F.row_number().over(Window.partitionBy(*by, "_own").orderBy(*order))
    others = F.sum(F.when(~F.col("_own"), 1).otherwise(0)).over(Window.partitionBy(*by))
    share = config.max_artist_share
    # So many that they are at most the share of all that is kept, also where the others are few.
    most = F.least(F.lit(int(share * config.top_k)), F.floor(others * F.lit(share / (1 - share)) + F.lit(1e-9)))
    kept = pairs.withColumns({"_rank": rank, "_most": most}).where(~F.col("_own") | (F.col("_rank") <= F.col("_most")))
    return kept.drop("_own", "_rank", "_most")


def _unordered() -> tuple[Column, Column]:
    """The two songs of a pair, the lesser id first: stage 2 trains a pair in both directions."""
    low, high = F.least("anchor_id", "positive_id"), F.greatest("anchor_id", "positive_id")
    return low.alias("anchor_id"), high.alias("positive_id")


KNOWN = pa.schema([PAIRS.field("anchor_id"), PAIRS.field("positive_id")])
POPULARITY = pa.schema([pa.field("track_id", pa.string(), nullable=False), pa.field("n_baskets", pa.int64())])


def _write(
    scored: DataFrame, sums: DataFrame, songs: DataFrame, artists: DataFrame, config: PipelineConfig, draft: Draft
) -> DataFrame:
    """Write the frames of the artifact; returns the pairs."""
    train = scored.where("split = 'train'")
    known = train.select(*_unordered()).distinct()
    low, high = _unordered()
    warm = scored.where("split = 'test_warm'").withColumns({"_low": low, "_high": high})
    warm = warm.join(known.toDF("_low", "_high"), ["_low", "_high"], "left_anti").drop("_low", "_high")
    others = scored.where("split not in ('train', 'test_warm')")
    pairs = _top(train, artists, config.pairs).unionByName(warm).unionByName(others).select(*PAIRS.names)
    pairs.persist(StorageLevel.MEMORY_AND_DISK)
    items = sums.where("source = 'item'").select("period", F.col("anchor_id").alias("track_id"), "n_baskets")
    trained = songs.where("split = 'train'").select("track_id")
    heard = items.where("period = 'before'").join(trained, "track_id", "left_semi")
    for frame, below, schema in (
        (pairs, PAIRS_FOLDER, PAIRS),
        (known, KNOWN_FOLDER, KNOWN),
        (heard, POPULARITY_FOLDER, POPULARITY),
    ):
        draft.parts += write_frame(frame, draft.uri, below, schema)
    return pairs
