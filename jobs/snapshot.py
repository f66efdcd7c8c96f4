"""Daily counts to a window snapshot: decay, marginals, scores, thresholds, top-K, splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from htcl.config import PairsConfig, PipelineConfig
from htcl.errors import HTCLError
from htcl.pairs.counting import SKETCH_SIZE, WEIGHT_ONE
from htcl.schemas import PAIRS

PAIRS_FOLDER = "pairs"
POPULARITY_FOLDER = "popularity"


def take_snapshot(
    config: PipelineConfig, pair_counts: DataFrame, item_counts: DataFrame, catalog: DataFrame, folder: Path
) -> dict[str, Any]:
    """Write the pairs of the window and the popularity of songs in its training part.

    Args:
        config: reads `pairs` and `split`.
        pair_counts: table PAIR_COUNTS.
        item_counts: table ITEM_COUNTS.
        catalog: the checked catalog, with the side of the split.
        folder: the artifact; gets `pairs/` and `popularity/` (Parquet).

    Returns:
        Figures: the cut-off day, pairs per split, pairs counted before the thresholds.

    Raises:
        HTCLError: when no pair has enough users.
    """
    days = sorted((r["dt"], r["n"]) for r in item_counts.groupBy("dt").agg(F.sum("n_baskets").alias("n")).collect())
    newest = days[-1][0]
    first = _first_day(newest, config.pairs.window_days)
    cutoff = _cutoff(days, first, config.split.warm_test_share)
    pair_counts = _directed(pair_counts.where(F.col("dt") >= first)).persist()
    item_counts = item_counts.where(F.col("dt") >= first).persist()
    sides = _sides(pair_counts, catalog)
    parts = {
        "train": (sides["train"].where(F.col("dt") < cutoff), item_counts.where(F.col("dt") < cutoff)),
        "validation": (sides["validation"], item_counts),
        "test_warm": (sides["train"].where(F.col("dt") >= cutoff), item_counts.where(F.col("dt") >= cutoff)),
        "test_cold": (sides["test"], item_counts),
    }
    scored = {name: _score(p, i, config.pairs, newest) for name, (p, i) in parts.items()}
    known = scored["train"].select("anchor_id", "positive_id")
    scored["test_warm"] = scored["test_warm"].join(known, ["anchor_id", "positive_id"], "left_anti")
    frames = [_top(frame, config.pairs.top_k).withColumn("split", F.lit(name)) for name, frame in scored.items()]
    pairs = frames[0].unionByName(frames[1]).unionByName(frames[2]).unionByName(frames[3])
    pairs.select(*PAIRS.names).coalesce(1).write.parquet(str(folder / PAIRS_FOLDER))
    popularity = parts["train"][1].groupBy("track_id").agg(F.sum("n_baskets").alias("n_baskets"))
    popularity.coalesce(1).write.parquet(str(folder / POPULARITY_FOLDER))
    return _figures(folder, pair_counts, cutoff, newest, config.pairs.min_users)


def _first_day(newest: str, window_days: int | None) -> str:
    import datetime as dt

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
    import datetime as dt

    return str(dt.date.fromisoformat(day) + dt.timedelta(days=1))


def _directed(pair_counts: DataFrame) -> DataFrame:
    """Copreference holds both ways; triggered pairs keep their direction."""
    swapped = pair_counts.where("source = 'copreference'").withColumnsRenamed(
        {"anchor_id": "positive_id", "positive_id": "anchor_id"}
    )
    return pair_counts.unionByName(swapped)


def _sides(pair_counts: DataFrame, catalog: DataFrame) -> dict[str, DataFrame]:
    """Pairs by the side they belong to: test wins over validation, validation over train."""
    side = catalog.select("track_id", "split")
    joined = pair_counts.join(side.withColumnsRenamed({"track_id": "anchor_id", "split": "a"}), "anchor_id").join(
        side.withColumnsRenamed({"track_id": "positive_id", "split": "b"}), "positive_id"
    )
    test = (F.col("a") == "test") | (F.col("b") == "test")
    validation = (F.col("a") == "validation") | (F.col("b") == "validation")
    return {
        "test": joined.where(test).drop("a", "b"),
        "validation": joined.where(~test & validation).drop("a", "b"),
        "train": joined.where(~test & ~validation).drop("a", "b"),
    }


def _score(pairs: DataFrame, items: DataFrame, config: PairsConfig, newest: str) -> DataFrame:
    """Add up the days with decay, drop pairs of too few users, score what is left."""
    decay = F.lit(1.0)
    if config.half_life_days:
        decay = F.pow(F.lit(0.5), F.datediff(F.lit(newest), F.col("dt")) / F.lit(config.half_life_days))
    sketch = f"slice(array_sort(array_distinct(flatten(collect_list(users)))), 1, {SKETCH_SIZE})"
    ids = ["anchor_id", "positive_id", "source"]
    summed = pairs.groupBy(*ids).agg(
        F.sum(F.col("n_baskets") * decay).alias("n"),
        F.sum(F.col("weight") * decay / WEIGHT_ONE).alias("weight"),
        F.expr(sketch).alias("users"),
        F.max("dt").alias("last_dt"),
    )
    summed = summed.withColumn("n_users", _distinct_users()).where(F.col("n_users") >= config.min_users)
    marginal = items.groupBy("track_id").agg(
        F.sum(F.col("n_baskets") * decay).alias("n"), F.sum(F.col("weight") * decay / WEIGHT_ONE).alias("share")
    )
    # A basket of n songs gives each 1/n, so the shares add up to the number of baskets.
    baskets, mean = marginal.agg(F.sum("share"), F.avg("n")).first() or (0.0, 0.0)
    marginal = marginal.drop("share")
    left = marginal.withColumnsRenamed({"track_id": "anchor_id", "n": "n_a"})
    right = marginal.withColumnsRenamed({"track_id": "positive_id", "n": "n_b"})
    summed = summed.join(left, "anchor_id").join(right, "positive_id")
    return summed.withColumn("score", _formula(config.score, baskets or 0.0, mean or 1.0)).drop("n", "n_a", "n_b", "users")


def _distinct_users() -> Column:
    """`htcl.pairs.counting.estimate_users` in SQL."""
    largest = F.element_at("users", -1).cast("double") / F.lit(2.0**63)
    estimate = F.round(F.lit(SKETCH_SIZE - 1) / largest).cast("long")
    return F.when(F.size("users") < SKETCH_SIZE, F.size("users").cast("long")).otherwise(estimate)


def _formula(score: str, baskets: float, mean: float) -> Column:
    """Scores over baskets: n of the pair, n_a and n_b of its songs; `mean` is the mean n of a song."""
    n, n_a, n_b = F.col("n"), F.col("n_a"), F.col("n_b")
    if score == "count":
        return n
    if score == "cosine":
        return n / F.sqrt(n_a * n_b)
    if score == "npmi":
        return F.log(n * baskets / (n_a * n_b)) / -F.log(n / baskets)
    k1, b = 1.2, 0.75  # the usual constants of BM25
    idf = F.log(F.lit(baskets) / (F.lit(1.0) + n_b))
    return idf * n * (k1 + 1) / (n + k1 * (1 - b + b * n_a / F.lit(mean)))


def _top(pairs: DataFrame, top_k: int) -> DataFrame:
    order = Window.partitionBy("anchor_id", "source").orderBy(F.desc("score"), F.asc("positive_id"))
    return pairs.withColumn("_rank", F.row_number().over(order)).where(F.col("_rank") <= top_k).drop("_rank")


def _figures(folder: Path, counted: DataFrame, cutoff: str, newest: str, min_users: int) -> dict[str, Any]:
    import pyarrow.dataset as ds

    splits = ds.dataset(folder / PAIRS_FOLDER, format="parquet").to_table(columns=["split", "source"])
    counts = {row["values"]: row["counts"] for row in splits["split"].value_counts().to_pylist()}
    sources = {row["values"]: row["counts"] for row in splits["source"].value_counts().to_pylist()}
    distinct = counted.select("anchor_id", "positive_id", "source").distinct().count()
    if not counts.get("train"):
        raise HTCLError(
            f"pairs: none of {distinct} counted pairs has {min_users} users in training; "
            "lower pairs.min_users or give more days of log"
        )
    return {
        "newest_day": newest,
        "cutoff_day": cutoff,
        "pairs_counted": distinct,
        "pairs": len(splits),
        "pairs_by_split": counts,
        "pairs_by_source": sources,
    }
