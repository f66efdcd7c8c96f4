"""Which scored pairs are kept: the best positives of an anchor, not too many of its own artist, none known already."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from htcl.config import PairsConfig

_BY = ("anchor_id", "source", "split")


def unordered() -> tuple[Column, Column]:
    """The two songs of a pair, the lesser id first: stage 2 trains a pair in both directions."""
    return F.least("anchor_id", "positive_id"), F.greatest("anchor_id", "positive_id")


def selected_pairs(scored: DataFrame, artists: DataFrame, config: PairsConfig) -> DataFrame:
    """Of training pairs the best of each anchor, of warm test pairs those that are not known, and all others.

    Args:
        scored: from `scored_pairs`.
        artists: (track_id, artist).
        config: reads `top_k` and `max_artist_share`.

    Top-K bounds what is trained on. Held-out pairs are the answers of the evaluation and stay whole.
    """
    # Known is what stands in training at all, also below the top-K.
    known = F.max(F.col("split") == "train").over(Window.partitionBy(*unordered()))
    pairs = scored.withColumn("_known", known).where("split != 'test_warm' or not _known").drop("_known")
    train = F.col("split") == "train"
    if config.max_artist_share < 1:
        pairs = _artist_bounded(pairs, artists, config)
    rank = F.row_number().over(Window.partitionBy(*_BY).orderBy(*_order()))
    return pairs.withColumn("_rank", rank).where(~train | (F.col("_rank") <= config.top_k)).drop("_rank")


def _order() -> list[Column]:
    return [F.desc("score"), F.asc("positive_id")]


def _artist_bounded(pairs: DataFrame, artists: DataFrame, config: PairsConfig) -> DataFrame:
    """Training pairs without the worst positives of the anchor's own artist, as many as are above their share."""
    for end in ("anchor", "positive"):
        named = artists.withColumnsRenamed({"track_id": f"{end}_id", "artist": f"_{end}_artist"})
        pairs = pairs.join(named, f"{end}_id", "left")
    own = F.coalesce(F.col("_anchor_artist") == F.col("_positive_artist"), F.lit(False))
    pairs = pairs.withColumn("_own", own).drop("_anchor_artist", "_positive_artist")
    rank = F.row_number().over(Window.partitionBy(*_BY, "_own").orderBy(*_order()))
    others = F.sum(F.when(~F.col("_own"), 1).otherwise(0)).over(Window.partitionBy(*_BY))
    share = config.max_artist_share
    # So many that they are at most the share of all that is kept, also where the others are few.
    most = F.least(F.lit(int(share * config.top_k)), F.floor(others * F.lit(share / (1 - share)) + F.lit(1e-9)))
    kept = pairs.withColumns({"_rank": rank, "_most": most})
    kept = kept.where((F.col("split") != "train") | ~F.col("_own") | (F.col("_rank") <= F.col("_most")))
    return kept.drop("_own", "_rank", "_most")
