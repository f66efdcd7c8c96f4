"""The log to daily counts: contract and codes in Spark SQL, baskets and pairs in NumPy kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from session import stage_progress

from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.ingest.reading import column_names, input_files
from htcl.logs import get_logger
from htcl.pairs.tables import COUNT_ROWS, EVENT_ROWS, count_partition
from htcl.schemas import INTERACTIONS, require_columns

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
    """
    from htcl.users import load_user_key

    codes = catalog.select("track_id").withColumn("code", (F.rank().over(_by_track()) - F.lit(1)).cast("long"))
    events = _coded(_refusals(_contract(spark, config), config), codes, config)
    if days:
        events = events.where(F.col("dt").between(days[0], days[-1]))
    key = load_user_key(config.workspace)
    tasks = max(int(spark.conf.get("spark.sql.shuffle.partitions") or 2), 1)
    hashed = events.mapInArrow(_user_hasher(key), from_arrow_schema(EVENT_ROWS))
    counts = hashed.repartition(tasks, "part").mapInArrow(_counter(config), from_arrow_schema(COUNT_ROWS))
    with stage_progress(spark, LOGGER, "count"):
        counts = counts.localCheckpoint(eager=True)
    names = codes.select(F.col("code"), F.col("track_id"))
    counts = counts.join(names.select(F.col("code").alias("a"), F.col("track_id").alias("anchor_id")), "a", "left")
    return counts.join(names.select(F.col("code").alias("b"), F.col("track_id").alias("positive_id")), "b", "left")


def _by_track() -> Any:
    from pyspark.sql import Window

    return Window.orderBy("track_id")


def _contract(spark: SparkSession, config: PipelineConfig) -> DataFrame:
    """The log under the contract's names, all as text, beside the row's place for the rejects."""
    section = config.interactions
    format_, files = input_files(section.path, section.format, "interactions")
    present = column_names(files[:50], format_)
    if not present:
        raise HTCLError(f"interactions.path: {section.path} holds no events")
    require_columns(section.columns, present, INTERACTIONS, "interactions")
    source = {name: section.columns.get(name, name) for name in INTERACTIONS.names}
    if format_ == "parquet":
        raw = spark.read.parquet(*files).withColumn("_corrupt", F.lit(None).cast("string"))
    elif format_ == "csv":
        raw = spark.read.csv(files, header=True).withColumn("_corrupt", F.lit(None).cast("string"))
    else:
        fields = ", ".join(f"`{name}` string" for name in dict.fromkeys(source.values()))
        reader = spark.read.schema(f"{fields}, _corrupt string").option("columnNameOfCorruptRecord", "_corrupt")
        raw = reader.json(files)
    columns = [
        F.col(f"`{column}`").alias(name) if column in raw.columns else F.lit(None).cast("string").alias(name)
        for name, column in source.items()
    ]
    place = F.col("_metadata.file_name").alias("place")
    rows = raw.select(*columns, (F.col("_corrupt").isNotNull()).alias("malformed"), place)
    rows = rows.withColumn("ts_text", F.col("ts").cast("string")).withColumn("ts", _timestamp(rows))
    return rows.select(*(F.col(c).cast("string") if c in _TEXT else F.col(c) for c in rows.columns))


_TEXT = {"event_id", "user_id", "track_id", "event_type", "session_id", "trigger_track_id", "duration_ratio"}


def _timestamp(rows: DataFrame) -> Column:
    """ISO text in the configured zone, a timestamp, or a number of seconds, milli- or microseconds."""
    type_ = dict(rows.dtypes)["ts"]
    if type_.startswith(("timestamp", "date")):
        return F.col("ts").cast("timestamp")
    number = F.expr("try_cast(ts as double)")
    seconds = F.when(number > 1e14, number / 1e6).when(number > 1e11, number / 1e3).otherwise(number)
    return F.coalesce(F.timestamp_micros((seconds * 1e6).cast("long")), F.expr("try_cast(ts as timestamp)"))


def _refusals(rows: DataFrame, config: PipelineConfig) -> DataFrame:
    """Add the reason for which a row is refused (null for good ones) and whether it is positive."""
    empty = {name: (F.col(name).isNull()) | (F.trim(name) == "") for name in ("user_id", "track_id", "event_type")}
    ratio = F.expr("try_cast(duration_ratio as double)")
    reason = (
        F.when(F.col("malformed"), F.lit("malformed_row"))
        .when(F.col("ts").isNull(), F.lit("bad_ts"))
        .when(empty["user_id"], F.lit("missing_user_id"))
        .when(empty["track_id"], F.lit("missing_track_id"))
        .when(empty["event_type"], F.lit("missing_event_type"))
        .when(F.col("duration_ratio").isNotNull() & ratio.isNull(), F.lit("bad_duration_ratio"))
    )
    positive = F.lit(False)
    for event_type, rule in config.interactions.positive.items():
        matches = F.col("event_type") == event_type
        if rule.min_duration_ratio is not None:
            matches = matches & (ratio.isNull() | (ratio >= rule.min_duration_ratio))
        positive = positive | matches
    return rows.withColumn("reason", reason).withColumn("positive", F.coalesce(positive, F.lit(False)))


def _coded(rows: DataFrame, codes: DataFrame, config: PipelineConfig) -> DataFrame:
    """Track ids to catalog codes; what the kernels read, and what a reject needs."""
    track = codes.select(F.col("track_id"), F.col("code").alias("track"))
    trigger = codes.select(F.col("track_id").alias("trigger_track_id"), F.col("code").alias("trigger"))
    rows = rows.join(track, "track_id", "left").join(trigger, "trigger_track_id", "left")
    reason = F.coalesce("reason", F.when(F.col("track").isNull(), F.lit("unknown_track")))
    day = F.date_from_unix_date(F.floor(F.unix_micros("ts") / F.lit(86_400_000_000)).cast("int")).cast("string")
    detail = F.when(reason == "bad_ts", F.concat(F.lit("ts "), F.col("ts_text"))).otherwise(
        F.concat(F.lit("track "), F.col("track_id"))
    )
    positive_hash = F.expr("xxhash64(session_id) & 9223372036854775807")
    return rows.select(
        "user_id",
        F.when(F.col("session_id").isNull(), F.lit(-1)).otherwise(positive_hash).alias("session"),
        F.unix_micros("ts").alias("ts"),
        "track",
        F.coalesce("trigger", F.lit(-1)).alias("trigger"),
        "positive",
        F.when(F.col("event_id").isNull(), F.lit(0)).otherwise(F.xxhash64("event_id")).alias("event"),
        F.coalesce("event_id", "place").alias("key"),
        reason.alias("reason"),
        F.concat(detail, F.lit(" in "), F.col("place")).alias("detail"),
        day.alias("dt"),
    )


def _user_hasher(key: bytes) -> Any:
    """Replace user ids before the first shuffle writes anything; rows without one are spread out."""

    def hash_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from htcl.users import hash_users

        for batch in batches:
            user = hash_users(batch.column("user_id"), key)
            part = np.where(np.asarray(user.is_null()), np.arange(len(user)), np.asarray(user.fill_null(0)))
            rest = [batch.column(name) for name in batch.schema.names[1:]]
            names = ["part", "user", *batch.schema.names[1:]]
            yield pa.RecordBatch.from_arrays([pa.array(part, pa.int64()), user, *rest], names=names)

    return hash_batches


def _counter(config: PipelineConfig) -> Any:
    gap, cap = config.pairs.session_gap_minutes, config.pairs.max_basket_size

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        collected = list(batches)
        if collected:
            yield from count_partition(pa.Table.from_batches(collected), gap, cap)

    return count
