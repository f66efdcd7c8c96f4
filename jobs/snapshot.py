"""Daily counts to a window snapshot: decay, marginals, scores, thresholds, top-K, splits."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from htcl.config import PairsConfig, PipelineConfig
from htcl.errors import HTCLError
from htcl.pairs import KNOWN_FOLDER, PAIRS_FOLDER, POPULARITY_FOLDER
from htcl.pairs.counting import SKETCH_SIZE, WEIGHT_ONE
from htcl.schemas import PAIRS

_ROUNDING = 1e-5
"""Of the shares, whose sum is the number of baskets: a lift of exactly `min_lift` is not above it."""

MERGED_SKETCH = f"slice(array_sort(array_distinct(flatten(collect_list(users)))), 1, {SKETCH_SIZE})"
"""The union of bottom-k sketches as a SQL aggregate."""


def take_snapshot(
    config: PipelineConfig, pair_counts: DataFrame, item_counts: DataFrame, catalog: DataFrame, folder: Path
) -> dict[str, Any]:
    """Write the pairs of the window and the popularity of songs in its training part.

    Args:
        config: reads `pairs` and `split`.
        pair_counts: table PAIR_COUNTS.
        item_counts: table ITEM_COUNTS.
        catalog: the checked catalog, with the side of the split.
        folder: the artifact; gets `pairs/`, `known/` and `popularity/` (Parquet).

    Top-K bounds what is trained on. Held-out pairs are the answers of the evaluation and stay whole.

    Returns:
        Figures: the cut-off day, pairs per split, pairs counted before the thresholds.

    Raises:
        HTCLError: when no pair has enough users.
    """
    days = sorted((r["dt"], r["n"]) for r in item_counts.groupBy("dt").agg(F.sum("n_baskets").alias("n")).collect())
    newest = days[-1][0]
    first = _first_day(newest, config.pairs.window_days)
    cutoff = _cutoff(days, first, config.split.warm_test_share)
    counted = _by_split(_directed(pair_counts.where(F.col("dt") >= first)), catalog, cutoff).persist()
    items = _items_by_split(item_counts.where(F.col("dt") >= first), cutoff).persist()
    scored = _score(counted, items, config.pairs, newest).persist()
    train = scored.where("split = 'train'")
    known = train.select(*_unordered()).distinct()
    low, high = _unordered()
    warm = scored.where("split = 'test_warm'").withColumns({"_low": low, "_high": high})
    warm = warm.join(known.toDF("_low", "_high"), ["_low", "_high"], "left_anti").drop("_low", "_high")
    others = scored.where("split not in ('train', 'test_warm')")
    pairs = _top(train, config.pairs.top_k).unionByName(warm).unionByName(others)
    pairs.select(*PAIRS.names).write.parquet(str(folder / PAIRS_FOLDER))
    known.write.parquet(str(folder / KNOWN_FOLDER))
    heard = items.where("split = 'train'").groupBy("track_id").agg(F.sum("n_baskets").alias("n_baskets"))
    trained = catalog.where("split = 'train'").select("track_id")
    heard.join(trained, "track_id", "left_semi").write.parquet(str(folder / POPULARITY_FOLDER))
    scored.unpersist()
    return _figures(folder, counted, cutoff, newest, config.pairs)


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
            return _next_day(day)
    return inside[0][0]


def _next_day(day: str) -> str:
    return str(dt.date.fromisoformat(day) + dt.timedelta(days=1))


def _directed(pair_counts: DataFrame) -> DataFrame:
    """Copreference holds both ways; triggered pairs keep their direction."""
    turned = {"anchor_id": F.col("positive_id"), "positive_id": F.col("anchor_id")}
    swapped = pair_counts.where("source = 'copreference'").withColumns(turned)
    return pair_counts.unionByName(swapped)


def _by_split(pair_counts: DataFrame, catalog: DataFrame, cutoff: str) -> DataFrame:
    """Add the split a row belongs to: test wins over validation; training songs are cut in time."""
    side = catalog.select("track_id", "split")
    joined = pair_counts.join(side.withColumnsRenamed({"track_id": "anchor_id", "split": "a"}), "anchor_id").join(
        side.withColumnsRenamed({"track_id": "positive_id", "split": "b"}), "positive_id"
    )
    split = (
        F.when((F.col("a") == "test") | (F.col("b") == "test"), "test_cold")
        .when((F.col("a") == "validation") | (F.col("b") == "validation"), "validation")
        .when(F.col("dt") < cutoff, "train")
        .otherwise("test_warm")
    )
    return joined.withColumn("split", split).drop("a", "b")


def _items_by_split(item_counts: DataFrame, cutoff: str) -> DataFrame:
    """The marginals of each split: cold and validation pairs come from all days, the others from their part."""
    timed = F.when(F.col("dt") < cutoff, F.lit("train")).otherwise(F.lit("test_warm"))
    splits = F.array(F.lit("test_cold"), F.lit("validation"), timed)
    return item_counts.withColumn("split", F.explode(splits))


def _unordered() -> tuple[Column, Column]:
    """The two songs of a pair, the lesser id first: stage 2 trains a pair in both directions."""
    low, high = F.least("anchor_id", "positive_id"), F.greatest("anchor_id", "positive_id")
    return low.alias("anchor_id"), high.alias("positive_id")


def _score(pairs: DataFrame, items: DataFrame, config: PairsConfig, newest: str) -> DataFrame:
    """Add up the days of each split with decay, drop pairs of too few users or no lift, score what is left."""
    decay = F.lit(1.0)
    if config.half_life_days:
        decay = F.pow(F.lit(0.5), F.datediff(F.lit(newest), F.col("dt")) / F.lit(config.half_life_days))
    summed = pairs.groupBy("anchor_id", "positive_id", "source", "split").agg(
        F.sum(F.col("n_baskets") * decay).alias("n"),
        F.sum(F.col("weight") * decay / WEIGHT_ONE).alias("weight"),
        F.expr(MERGED_SKETCH).alias("users"),
        F.max("dt").alias("last_dt"),
    )
    summed = summed.withColumn("n_users", _distinct_users()).where(F.col("n_users") >= config.min_users)
    marginal = items.groupBy("split", "track_id").agg(
        F.sum(F.col("n_baskets") * decay).alias("n"), F.sum(F.col("weight") * decay / WEIGHT_ONE).alias("share")
    )
    # A basket of n songs gives each 1/n, so the shares add up to the number of baskets.
    totals = marginal.groupBy("split").agg(F.sum("share").alias("baskets"), F.avg("n").alias("mean"))
    marginal = marginal.drop("share")
    left = marginal.withColumnsRenamed({"track_id": "anchor_id", "n": "n_a"})
    right = marginal.withColumnsRenamed({"track_id": "positive_id", "n": "n_b"})
    joined = summed.join(left, ["split", "anchor_id"], "left").join(right, ["split", "positive_id"], "left")
    # A trigger song need not stand in any positive basket itself; a pair never counts more than its songs.
    for column in ("n_a", "n_b"):
        joined = joined.withColumn(column, F.greatest(F.coalesce(column, F.lit(0.0)), F.col("n")))
    joined = joined.join(F.broadcast(totals), "split")
    # Songs that everybody plays meet by chance; a recommendation that pleased is no chance.
    lift = F.col("n") * F.col("baskets") / (F.col("n_a") * F.col("n_b"))
    above = lift > config.min_lift * (1 + _ROUNDING)
    kept = joined.where((F.col("source") != "copreference") | above)
    return kept.withColumn("score", _formula(config.score))


def _distinct_users() -> Column:
    """`htcl.pairs.counting.estimate_users` in SQL."""
    largest = F.element_at("users", -1).cast("double") / F.lit(2.0**63)
    estimate = F.round(F.lit(SKETCH_SIZE - 1) / largest).cast("long")
    return F.when(F.size("users") < SKETCH_SIZE, F.size("users").cast("long")).otherwise(estimate)


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


def _top(pairs: DataFrame, top_k: int) -> DataFrame:
    order = Window.partitionBy("anchor_id", "source", "split").orderBy(F.desc("score"), F.asc("positive_id"))
    return pairs.withColumn("_rank", F.row_number().over(order)).where(F.col("_rank") <= top_k).drop("_rank")


def _figures(folder: Path, counted: DataFrame, cutoff: str, newest: str, config: PairsConfig) -> dict[str, Any]:
    import pyarrow.dataset as ds

    splits = ds.dataset(folder / PAIRS_FOLDER, format="parquet").to_table(columns=["split", "source"])
    counts = {row["values"]: row["counts"] for row in splits["split"].value_counts().to_pylist()}
    sources = {row["values"]: row["counts"] for row in splits["source"].value_counts().to_pylist()}
    distinct = counted.select("anchor_id", "positive_id", "source").distinct().count()
    if not counts.get("train"):
        raise HTCLError(
            f"pairs: none of {distinct} counted pairs has {config.min_users} users and a lift above "
            f"{config.min_lift:g} in training; lower pairs.min_users or pairs.min_lift, or give more days of log"
        )
    return {
        "newest_day": newest,
        "cutoff_day": cutoff,
        "pairs_counted": distinct,
        "pairs": len(splits),
        "pairs_by_split": counts,
        "pairs_by_source": sources,
    }
