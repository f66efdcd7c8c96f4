"""The interaction log, in whichever format a platform has, under the names of the contract."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from htcl.config import InteractionsConfig
from htcl.errors import HTCLError
from htcl.ingest.reading import column_names, csv_header, delimiter, input_files, parquet_schema
from htcl.schemas import INTERACTIONS, require_columns

SAMPLED_FILES = 50

_CORRUPT = "_corrupt"


def read_log(spark: SparkSession, section: InteractionsConfig) -> DataFrame:
    """Read the log.

    Args:
        spark: the session; its time zone is that of timestamps which name none.
        section: where the log lies and how its columns are called.

    Returns:
        The columns of INTERACTIONS as text (blank is null) but `ts`, a timestamp; `ts_text` as it stood there,
        `malformed` for rows that could not be told into columns, `place` (the file).

    Raises:
        HTCLError: no events, a missing column, files that contradict each other.
    """
    format_, files = input_files(section.path, section.format, "interactions")
    present = column_names(files[:SAMPLED_FILES], format_, wanted=section.columns.values())
    if not present:
        raise HTCLError(f"interactions.path: {section.path} holds no events")
    require_columns(section.columns, present, INTERACTIONS, "interactions")
    source = {name: section.columns.get(name, name) for name in INTERACTIONS.names}
    raw = {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl}[format_](spark, files, list(source.values()))
    malformed = F.col(_CORRUPT).isNotNull()
    columns = [
        F.when(~malformed, F.col(f"`{column}`")).alias(name)
        if column in raw.columns
        else F.lit(None).cast("string").alias(name)
        for name, column in source.items()
    ]
    place = F.col("_metadata.file_name").alias("place")
    rows = raw.select(*columns, malformed.alias("malformed"), place)
    timed = rows.withColumn("ts_text", F.col("ts").cast("string")).withColumn("ts", _timestamp(rows))
    text = [_text(name).alias(name) for name in INTERACTIONS.names if name != "ts"]
    return timed.select("ts", "ts_text", *text, "malformed", "place")


def _parquet(spark: SparkSession, files: list[str], columns: list[str]) -> DataFrame:
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")  # else Spark refuses what pandas writes
    try:
        # A column that came later must not depend on which file is looked at first.
        raw = spark.read.option("mergeSchema", "true").parquet(*files)
    except (AnalysisException, Py4JJavaError) as error:
        message = error.java_exception.getMessage() if isinstance(error, Py4JJavaError) else str(error)
        first = message.splitlines()[0]
        raise HTCLError(f"interactions.path: the Parquet files cannot be read as one table: {first}") from None
    zone = spark.conf.get("spark.sql.session.timeZone")
    for field in parquet_schema(files[0]):
        if field.name in columns and pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            time = F.timestamp_micros(F.expr(f"`{field.name}` div 1000"))
            raw = raw.withColumn(field.name, time if field.type.tz else F.to_utc_timestamp(time, zone))
    return raw.withColumn(_CORRUPT, F.lit(None).cast("string"))


def _csv(spark: SparkSession, files: list[str], columns: list[str]) -> DataFrame:
    """Files by their header: Spark would lay the columns of one file over all."""
    headers = defaultdict(list)
    for uri in files:
        if header := tuple(csv_header(uri)):
            headers[(header, delimiter(uri))].append(uri)
    parts = []
    for (header, separator), group in headers.items():
        # By place, since headers of the wild hold names that are empty or stand twice.
        places = [str(number) for number in range(len(header))]
        reader = spark.read.schema(_strings([*places, _CORRUPT])).option("header", True).option("escape", '"')
        # Without all columns in sight, a row with a cell too many passes for a good one.
        reader = reader.option("columnNameOfCorruptRecord", _CORRUPT).option("columnPruning", False)
        named = [
            F.col(place).alias(name)
            for name, place in dict(zip(header, places, strict=True)).items()
            if name in columns
        ]
        parts.append(reader.option("sep", separator).csv(group).select(*named, _CORRUPT, "_metadata"))
    raw = parts[0]
    for part in parts[1:]:
        raw = raw.unionByName(part, allowMissingColumns=True)
    return raw


def _jsonl(spark: SparkSession, files: list[str], columns: list[str]) -> DataFrame:
    reader = spark.read.schema(_strings(dict.fromkeys([*columns, _CORRUPT])))
    return reader.option("columnNameOfCorruptRecord", _CORRUPT).json(files)


def _strings(names: Iterable[str]) -> StructType:
    return StructType([StructField(name, StringType()) for name in names])


def _text(name: str) -> Column:
    value = F.col(name).cast("string")
    return F.when(F.trim(value) != "", value)


def _timestamp(rows: DataFrame) -> Column:
    """A timestamp, ISO text or YYYYMMDD in the session's zone, or a number of seconds, milli-, micro- or nanoseconds.

    Numbers count from 1973 to 2286, where the four cannot be taken for each other.
    """
    type_ = dict(rows.dtypes)["ts"]
    if type_.startswith(("timestamp", "date")):
        return F.col("ts").cast("timestamp")
    number = F.expr("try_cast(ts as double)")
    micros = (
        F.when((number >= 1e8) & (number < 1e10), number * 1e6)
        .when((number >= 1e11) & (number < 1e13), number * 1e3)
        .when((number >= 1e14) & (number < 1e16), number)
        .when((number >= 1e17) & (number < 1e19), number / 1e3)
    )
    text = F.col("ts").cast("string")
    day = F.when(text.rlike("^[12][0-9]{7}$"), F.try_to_timestamp(text, F.lit("yyyyMMdd")))
    written = F.when(text.rlike("^ *[0-9]{4}-"), F.expr("try_cast(cast(ts as string) as timestamp)"))
    return F.coalesce(day, F.timestamp_micros(F.round(micros).cast("long")), written)
