"""The log to daily counts: judged and coded in Spark SQL, baskets and pairs in NumPy kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from log_input import read_log
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from session import stage_progress

from htcl.config import PipelineConfig
from htcl.logs import get_logger
from htcl.pairs.baskets import MICROSECONDS_A_DAY
from htcl.pairs.tables import COUNT_ROWS, EVENT_ROWS, count_partition
from htcl.users import load_user_key

LOGGER = get_logger("pairs")


def count_log(spark: SparkSession, config: PipelineConfig, catalog: DataFrame, days: list[str]) -> DataFrame:
    """Count pairs and songs per day, in one pass over the log.

    Args:
        spark: the session.
        config: reads `interactions` and `pairs`.
        catalog: the checked catalog.
        days: ISO days to count; empty for all.

    Returns:
        Rows of four kinds: `pair` and `item` counts (partial: add them up), `reject`, `stat` (key, n_baskets).

    Raises:
        HTCLError: a column is missing, or files of the log contradict each other.
    """
    events = _judged(read_log(spark, config.interactions), config)
    if days:
        events = events.where(F.col("dt").between(days[0], days[-1]))
    key = load_user_key(config.workspace)
    hashed = events.mapInArrow(_user_hasher(key), from_arrow_schema(HASHED_ROWS))
    codes = catalog.select("track_id").withColumn("code", (F.rank().over(_by_track()) - F.lit(1)).cast("long"))
    tasks = max(int(spark.conf.get("spark.sql.shuffle.partitions") or 2), 1)
    coded = _coded(hashed, codes).repartition(tasks, "part")
    counts = coded.mapInArrow(_counter(config), from_arrow_schema(COUNT_ROWS))
    with stage_progress(spark, LOGGER, "count"):
        counts = counts.localCheckpoint(eager=True)
    names = codes.select(F.col("code"), F.col("track_id"))
    counts = counts.join(names.select(F.col("code").alias("a"), F.col("track_id").alias("anchor_id")), "a", "left")
    return counts.join(names.select(F.col("code").alias("b"), F.col("track_id").alias("positive_id")), "b", "left")


_SONGS = {"track": pa.field("track_id", pa.string()), "trigger": pa.field("trigger_track_id", pa.string())}
HASHED_ROWS = pa.schema([_SONGS.get(field.name, field) for field in EVENT_ROWS])
"""Judged events with the user's hash; the columns are those of EVENT_ROWS, songs still by their id."""


def _by_track() -> Any:
    return Window.orderBy("track_id")


def _judged(rows: DataFrame, config: PipelineConfig) -> DataFrame:
    """Add whether a row is positive and, where it is refused, the reason; hash what only has to be told apart."""
    ratio = F.expr("try_cast(duration_ratio as double)")
    late = F.col("ts") > F.current_timestamp() + F.expr("interval 1 day")
    reason = (
        F.when(F.col("malformed"), F.lit("malformed_row"))
        .when(F.col("ts").isNull() | late, F.lit("bad_ts"))
        .when(F.col("user_id").isNull(), F.lit("missing_user_id"))
        .when(F.col("track_id").isNull(), F.lit("missing_track_id"))
        .when(F.col("event_type").isNull(), F.lit("missing_event_type"))
        .when(F.col("duration_ratio").isNotNull() & ratio.isNull(), F.lit("bad_duration_ratio"))
    )
    # A row that cannot be told into columns may hold anything anywhere, a user id too: only its place is kept.
    seen = F.when(F.col("malformed"), F.lit(None)).when(reason == "bad_ts", F.concat(F.lit("ts "), F.col("ts_text")))
    seen = F.coalesce(seen.otherwise(F.concat(F.lit("track "), F.col("track_id"))), F.lit("a row"))
    day = F.date_from_unix_date(F.floor(F.unix_micros("ts") / F.lit(MICROSECONDS_A_DAY)).cast("int")).cast("string")
    session = F.expr("xxhash64(session_id) & 9223372036854775807")
    return rows.select(
        "user_id",
        F.when(F.col("session_id").isNull(), F.lit(-1)).otherwise(session).alias("session"),
        F.unix_micros("ts").alias("ts"),
        "track_id",
        "trigger_track_id",
        _positive(ratio, config).alias("positive"),
        F.when(F.col("event_id").isNull(), F.lit(0)).otherwise(F.xxhash64("event_id")).alias("event"),
        F.when(F.col("malformed"), F.col("place")).otherwise(F.coalesce("event_id", "place")).alias("key"),
        reason.alias("reason"),
        F.concat(seen, F.lit(" in "), F.col("place")).alias("detail"),
        day.alias("dt"),
    )


def _positive(ratio: Column, config: PipelineConfig) -> Column:
    positive = F.lit(False)
    for event_type, rule in config.interactions.positive.items():
        matches = F.col("event_type") == event_type
        if rule.min_duration_ratio is not None:
            matches = matches & (ratio.isNull() | (ratio >= rule.min_duration_ratio))
        positive = positive | matches
    return F.coalesce(positive, F.lit(False))


def _user_hasher(key: bytes) -> Any:
    """Replace user ids before any shuffle writes anything; rows without one are spread out."""

    def hash_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from htcl.users import hash_users

        for batch in batches:
            user = hash_users(batch.column("user_id"), key)
            part = np.where(np.asarray(user.is_null()), np.arange(len(user)), np.asarray(user.fill_null(0)))
            rest = [batch.column(name) for name in HASHED_ROWS.names[2:]]
            yield pa.RecordBatch.from_arrays([pa.array(part, pa.int64()), user, *rest], names=HASHED_ROWS.names)

    return hash_batches


def _coded(rows: DataFrame, codes: DataFrame) -> DataFrame:
    """Track ids to catalog codes, and the refusal of tracks that the catalog lacks."""
    track = codes.select(F.col("track_id"), F.col("code").alias("track"))
    trigger = codes.select(F.col("track_id").alias("_trigger"), F.col("code").alias("trigger"))
    # Most events have no trigger: a key of their own each keeps them from meeting in one task.
    none = F.concat(F.lit("\0"), F.col("part").cast("string"))
    rows = rows.withColumn("_trigger", F.coalesce("trigger_track_id", none))
    rows = rows.join(track, "track_id", "left").join(trigger, "_trigger", "left")
    rows = rows.withColumn("trigger", F.coalesce("trigger", F.lit(-1)))
    unknown = F.when(F.col("track").isNull(), F.lit("unknown_track"))
    return rows.withColumn("reason", F.coalesce("reason", unknown)).select(*EVENT_ROWS.names)


def _counter(config: PipelineConfig) -> Any:
    gap, cap = config.pairs.session_gap_minutes, config.pairs.max_basket_size

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        collected = list(batches)
        if collected:
            yield from count_partition(pa.Table.from_batches(collected), gap, cap)

    return count
