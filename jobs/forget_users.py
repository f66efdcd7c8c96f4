"""Take the users who are to be forgotten out of everything that was derived of them day by day.

The days of the log that hold them are counted again without them, derived days whose log is gone are dropped, and old
versions of the tables are deleted. No other run may count meanwhile. Who is forgotten is on the list that `htcl forget`
writes.

    spark-submit jobs/forget_users.py --config CONFIG
"""

from __future__ import annotations

import argparse

from daily_counts import bring_up_to_date
from pyspark.sql import SparkSession
from session import job_parser, run_job, spark_session

from htcl.config import PipelineConfig
from htcl.logs import get_logger, log
from htcl.pairs.quality import quality_table
from htcl.pairs.store import pair_table
from htcl.tables import GrowingTable, rejects_table

LOGGER = get_logger("forget")


def main(config: PipelineConfig, arguments: argparse.Namespace) -> None:
    """Say what was done."""
    del arguments
    if not pair_table(config.workspace).exists():
        log(LOGGER, "nothing was counted yet")
        return
    with spark_session(config, "forget_users") as spark:
        log(LOGGER, "users forgotten", **forget(spark, config))


def forget(spark: SparkSession, config: PipelineConfig) -> dict[str, int]:
    """Bring the counts up to date without these users, then delete what older versions hold.

    Returns:
        Days that were counted again, dropped and kept as they were, and files deleted.
    """
    counts = pair_table(config.workspace)
    before = _files_by_day(counts)
    bring_up_to_date(spark, config, None)
    after = _files_by_day(counts)
    rejects = rejects_table(config.workspace)
    return {
        "days_counted_again": sum(before[day] != files for day, files in after.items() if day in before),
        "days_dropped": len(before.keys() - after.keys()),
        "days_kept": sum(before.get(day) == files for day, files in after.items()),
        "files_deleted": sum(table.vacuum() for table in (counts, rejects, quality_table(config.workspace))),
    }


def _files_by_day(table: GrowingTable) -> dict[str, frozenset[str]]:
    days: dict[str, set[str]] = {}
    for part in table.parts():
        days.setdefault(str(part.partition), set()).add(part.path)
    return {day: frozenset(paths) for day, paths in days.items()}


if __name__ == "__main__":
    run_job(job_parser(__doc__ or ""), main)
