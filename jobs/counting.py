"""The log to daily counts, driver side: which files, three stages of tasks, and what they bring."""

from __future__ import annotations

import datetime as dt
import math
import time
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa
from pyspark import RDD
from pyspark.sql import SparkSession
from session import stage_progress

from htcl.config import PipelineConfig
from htcl.logs import get_logger, log
from htcl.pairs.activity import Histogram, day_limits
from htcl.pairs.blocks import unpack
from htcl.pairs.figures import FUNNEL, SEEN, added_funnel, added_seen
from htcl.pairs.judging import Rules
from htcl.pairs.log_index import LogFile
from htcl.pairs.tasks import (
    FUNNEL_BLOCK,
    SEEN_BLOCK,
    Job,
    count_part,
    days_of,
    forgotten_days,
    merge_buckets,
    part_activity,
    read_units,
)
from htcl.pairs.units import units_of
from htcl.parts import Part
from htcl.users import forgotten_users, load_user_key

LOGGER = get_logger("pairs")
READ_TASKS_A_CORE = 4


@dataclass(frozen=True)
class Counted:
    """What the tasks brought.

    Attributes:
        parts: files of the table pair_counts, written but not committed.
        seen: rows of SEEN.
        funnel: rows of FUNNEL.
    """

    parts: list[Part]
    seen: pa.Table
    funnel: pa.Table


def counting_job(config: PipelineConfig, format_: str, days: frozenset[int] | None) -> Job:
    """What the tasks of one counting are told: settings, secret, days."""
    forgotten = frozenset(forgotten_users(config.workspace))
    rules = Rules(config.interactions, load_user_key(config.workspace), forgotten, dt.datetime.now(dt.UTC))
    return Job(config, format_, rules, days)


def count_files(spark: SparkSession, job: Job, files: list[LogFile]) -> Counted:
    """Count the job's days from files of the log.

    Args:
        spark: the session.
        job: from `counting_job`.
        files: every file that has events of the days, or of those looked back to.

    Raises:
        HTCLError: a file cannot be read.
    """
    started, buckets = time.monotonic(), job.pairs.buckets
    job = replace(job, parts=_parts(spark, job, files))
    with stage_progress(spark, LOGGER, "count"):
        events = _units(spark, job, files).mapPartitions(lambda units: read_units(units, job)).partitionBy(job.parts)
        limits = _limits(events, job)
        counts = events.mapPartitions(lambda records: count_part(records, job, limits))
        # A task merges several buckets where there are few parts: a day alone is no work for many tasks.
        merged = counts.partitionBy(min(buckets, job.parts)).mapPartitions(lambda records: merge_buckets(records, job))
        found = merged.collect()
    parts = [part for part in found if isinstance(part, Part)]
    blocks = [item for item in found if not isinstance(item, Part)]
    seen = unpack(block for kind, block in blocks if kind == SEEN_BLOCK)
    funnel = unpack(block for kind, block in blocks if kind == FUNNEL_BLOCK)
    log(LOGGER, "log counted", seconds=time.monotonic() - started, files=len(files), written=len(parts))
    return Counted(
        parts,
        SEEN.empty_table() if seen is None else added_seen([seen]),
        FUNNEL.empty_table() if funnel is None else added_funnel([funnel]),
    )


def look_at_days(spark: SparkSession, job: Job, files: list[LogFile]) -> list[LogFile]:
    """The files with the days that they have events of."""
    days: dict[int, set[int]] = {}
    with stage_progress(spark, LOGGER, "look for days"):
        for number, found in _units(spark, job, files).mapPartitions(lambda units: days_of(units, job)).collect():
            days.setdefault(number, set()).update(found)
    return [LogFile(file.path, file.tag, frozenset(days.get(n, ()))) for n, file in enumerate(files)]


def days_to_forget(spark: SparkSession, job: Job, files: list[LogFile]) -> frozenset[int]:
    """The days that hold events of users who are to be forgotten: the whole log is read for them."""
    with stage_progress(spark, LOGGER, "look for users"):
        found = _units(spark, job, files).mapPartitions(lambda units: forgotten_days(units, job)).distinct().collect()
    return frozenset(found)


def _parts(spark: SparkSession, job: Job, files: list[LogFile]) -> int:
    """Parts of the users: as many as keep every core busy, none larger than a task should be."""
    return max(
        spark.sparkContext.defaultParallelism, math.ceil(sum(file.size for file in files) / (job.pairs.part_mb * 1e6))
    )


def _units(spark: SparkSession, job: Job, files: list[LogFile]) -> RDD[Any]:
    units = units_of(job.config.interactions, job.format, files)
    tasks = max(1, min(len(units), READ_TASKS_A_CORE * spark.sparkContext.defaultParallelism))
    # Dealt out like cards: each task gets large and small ones.
    dealt = [unit for first in range(tasks) for unit in islice(units, first, None, tasks)]
    return spark.sparkContext.parallelize(dealt, tasks)


def _limits(events: RDD[Any], job: Job) -> dict[int, int] | None:
    """What heavy users are held to; the events that are shuffled for it are used again."""
    percentile = job.pairs.heavy_user_percentile
    if percentile is None:
        return None
    total: Histogram = {}
    for histogram in events.mapPartitions(lambda records: part_activity(records, job)).collect():
        for key, users in histogram.items():
            total[key] = total.get(key, 0) + users
    return day_limits(total, percentile)
