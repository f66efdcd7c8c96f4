"""The interaction log, in whichever format a platform has, under the names of the contract."""

from __future__ import annotations

from collections import defaultdict

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from htcl.config import InteractionsConfig
from htcl.errors import HTCLError
from htcl.ingest.reading import column_names, csv_header, delimiter, input_files
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


def _parquet(spark: SparkSession, files: list[str], _: list[str]) -> DataFrame:
    try:
        # A column that came later must not depend on which file is looked at first.
        raw = spark.read.option("mergeSchema", "true").parquet(*files)
    except (AnalysisException, Py4JJavaError) as error:
        message = error.java_exception.getMessage() if isinstance(error, Py4JJavaError) else str(error)
        first = message.splitlines()[0]
        raise HTCLError(f"interactions.path: the Parquet files cannot be read as one table: {first}") from None
    return raw.withColumn(_CORRUPT, F.lit(None).cast("string"))


def _csv(spark: SparkSession, files: list[str], _: list[str]) -> DataFrame:
    """Files by their header: Spark would lay the columns of one file over all."""
    headers = defaultdict(list)
    for uri in files:
        if header := tuple(csv_header(uri)):
            headers[(header, delimiter(uri))].append(uri)
    parts = []
    for (header, separator), group in headers.items():
        schema = ", ".join(f"`{name}` string" for name in (*header, _CORRUPT))
        reader = spark.read.schema(schema).option("header", True).option("sep", separator).option("escape", '"')
        # Without all columns in sight, a row with a cell too many passes for a good one.
        reader = reader.option("columnNameOfCorruptRecord", _CORRUPT).option("columnPruning", False)
        parts.append(reader.csv(group).withColumn("_metadata", F.col("_metadata")))
    raw = parts[0]
    for part in parts[1:]:
        raw = raw.unionByName(part, allowMissingColumns=True)
    return raw


def _jsonl(spark: SparkSession, files: list[str], columns: list[str]) -> DataFrame:
    fields = ", ".join(f"`{name}` string" for name in dict.fromkeys([*columns, _CORRUPT]))
    return spark.read.schema(fields).option("columnNameOfCorruptRecord", _CORRUPT).json(files)


def _text(name: str) -> Column:
    value = F.col(name).cast("string")
    return F.when(F.trim(value) != "", value)


def _timestamp(rows: DataFrame) -> Column:
    """A timestamp, ISO text or YYYYMMDD in the session's zone, or a number of seconds, milli- or microseconds.

    Numbers count from 1973 on, where the three cannot be taken for each other.
    """
    type_ = dict(rows.dtypes)["ts"]
    if type_.startswith(("timestamp", "date")):
        return F.col("ts").cast("timestamp")
    number = F.expr("try_cast(ts as double)")
    micros = (
        F.when((number >= 1e8) & (number < 1e10), number * 1e6)
        .when((number >= 1e11) & (number < 1e13), number * 1e3)
        .when((number >= 1e14) & (number < 1e16), number)
    )
    text = F.col("ts").cast("string")
    day = F.when(text.rlike("^[12][0-9]{7}$"), F.try_to_timestamp(text, F.lit("yyyyMMdd")))
    written = F.when(text.rlike("^ *[0-9]{4}-"), F.expr("try_cast(cast(ts as string) as timestamp)"))
    return F.coalesce(day, F.timestamp_micros(micros.cast("long")), written)
