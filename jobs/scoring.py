"""Sums of a window to scored pairs: the split of each, marginals, lift and score, in Spark SQL."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from htcl.config import PairsConfig
from htcl.pairs.window import AFTER, ALL, BEFORE

PERIODS = (ALL, BEFORE, AFTER)
Totals = dict[str, tuple[float, float]]
"""Baskets and mean baskets of a song by part of the window."""

_ROUNDING = 1e-5
"""Of the shares, whose sum is the number of baskets: a lift of exactly `min_lift` is not above it."""


def window_songs(sums: DataFrame, songs: DataFrame) -> DataFrame:
    """What is known of each song of the window or of the shards.

    Returns:
        (track_id, split: null for a song that the shards lack, last_dt, and of each part of the window n_PERIOD, its
        decayed baskets, and baskets_PERIOD, its baskets as they are; null where it stands in none).
    """
    items = sums.where("source = 'item'").groupBy(F.col("anchor_id").alias("track_id"))
    figures = [
        F.max(F.when(F.col("period") == period, F.col(column))).alias(f"{name}_{period}")
        for period in PERIODS
        for name, column in (("n", "n"), ("baskets", "n_baskets"))
    ]
    heard = items.agg(F.max("last_dt").alias("last_dt"), *figures)
    return songs.select("track_id", "split").join(heard, "track_id", "full")


def scored_pairs(sums: DataFrame, songs: DataFrame, totals: Totals, config: PairsConfig) -> DataFrame:
    """Pairs with a positive response and enough lift, in the split that they belong to, with their score.

    Args:
        sums: rows of SUMS.
        songs: from `window_songs`.
        totals: of the parts of the window.
        config: reads `min_lift`, `score` and `symmetric_sources`.

    Returns:
        The columns of PAIRS; pairs of a symmetric source stand both ways.
    """
    pairs = sums.where("source != 'item' and n > 0")
    marginals = F.struct(*[F.col(f"n_{period}").alias(period) for period in PERIODS])
    for end, n in (("anchor", "n_a"), ("positive", "n_b")):
        known = songs.where("split is not null")
        known = known.select(F.col("track_id").alias(f"{end}_id"), F.col("split").alias(f"_{end}"), marginals.alias(n))
        pairs = pairs.join(known, f"{end}_id")
    pairs = pairs.withColumn("split", _split()).where("split is not null")
    # A trigger song need not stand in any positive basket itself; a pair never counts more than its songs.
    ends = {n: F.greatest(F.coalesce(_of_period(n), F.lit(0.0)), F.col("n")) for n in ("n_a", "n_b")}
    pairs = pairs.withColumns(ends).withColumns({"baskets": _total(totals, 0), "mean": _total(totals, 1)})
    # Songs that everybody plays meet by chance; a recommendation that pleased is no chance.
    lift = F.col("n") * F.col("baskets") / (F.col("n_a") * F.col("n_b"))
    above = lift > config.min_lift * (1 + _ROUNDING)
    kept = _both_ways(pairs.where((F.col("source") != "copreference") | above), config.symmetric_sources)
    rated = kept.withColumn("rate", _rate())
    return rated.withColumn("score", F.coalesce("rate", _formula(config.score)))


def _split() -> Column:
    """The split of a pair: test wins over validation; pairs of training songs are cut in time."""
    whole, one, other = F.col("period") == ALL, F.col("_anchor"), F.col("_positive")
    return (
        F.when((one == "test") | (other == "test"), F.when(whole, "test_cold"))
        .when((one == "validation") | (other == "validation"), F.when(whole, "validation"))
        .when(F.col("period") == BEFORE, "train")
        .when(F.col("period") == AFTER, "test_warm")
    )


def _of_period(column: str) -> Column:
    """The field of a struct that the row's part of the window names."""
    by_period = [F.when(F.col("period") == period, F.col(column)[period]) for period in PERIODS]
    return F.coalesce(*by_period)


def _total(totals: Totals, place: int) -> Column:
    by_period = [F.when(F.col("period") == period, F.lit(figures[place])) for period, figures in totals.items()]
    return F.coalesce(*by_period)


def _both_ways(pairs: DataFrame, symmetric_sources: list[str]) -> DataFrame:
    """Pairs by anchor and positive: those of a symmetric source turned around too."""
    names = ("anchor_id", "positive_id", "n_a", "n_b")
    turned = ("positive_id", "anchor_id", "n_b", "n_a")
    there = F.struct(*names)
    back = F.struct(*[F.col(column).alias(name) for column, name in zip(turned, names, strict=True)])
    both = F.col("source").isin(symmetric_sources) & (F.col("anchor_id") != F.col("positive_id"))
    ways = F.explode(F.when(both, F.array(there, back)).otherwise(F.array(there)))
    return pairs.withColumn("_way", ways).withColumns({name: F.col("_way")[name] for name in names}).drop("_way")


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
