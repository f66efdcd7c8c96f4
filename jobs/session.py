"""What the Spark jobs share: arguments, the session, progress, errors as one sentence."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from pyspark.sql import SparkSession

from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.errors import HTCLError, PassingError, sentence_of
from htcl.logs import Progress, get_logger, log_sentence, setup_logging

EXIT_FAILED = 1
DEFAULTS = {
    "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
    "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 1)),
    # Else tasks of RDDs and of DataFrames, which differ in it, each start Python workers of their own.
    "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "false",
}
"""Settings of a session where neither the configuration nor spark-submit has them."""

_RAISED = re.compile(rf"\b({HTCLError.__name__}|{PassingError.__name__}): (.*\S.*)")


def job_parser(description: str) -> argparse.ArgumentParser:
    """The arguments that every job takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=Path, help="pipeline configuration (YAML)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting, such as pairs.top_k=20"
    )
    parser.add_argument(
        "--inputs", type=json.loads, metavar="JSON", help="what the flow saw of the raw inputs; else looked at now"
    )
    return parser


def run_job(parser: argparse.ArgumentParser, main: Callable[[PipelineConfig, argparse.Namespace], None]) -> None:
    """Parse, load the configuration, run; a failure that a person can mend ends in one sentence."""
    arguments = parser.parse_args()
    setup_logging()
    try:
        main(load_config(arguments.config, arguments.set), arguments)
    except Exception as error:
        told = executor_error(str(error)) or sentence_of(error)
        if told is None:
            raise
        log_sentence(get_logger("job"), told)
        sys.exit(EXIT_FAILED)


def executor_error(text: str) -> HTCLError | None:
    """The HTCLError that was raised in an executor and came back inside Spark's own; causes stand before it."""
    raised = _RAISED.findall(text)
    if not raised:
        return None
    name, sentence = raised[-1]
    return (PassingError if name == PassingError.__name__ else HTCLError)(sentence.strip())


@contextlib.contextmanager
def spark_session(config: PipelineConfig, name: str) -> Iterator[SparkSession]:
    """A session with the configured settings; master and memory are spark-submit's."""
    # The workers must run the driver's Python: the one on PATH may lack the packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(f"htcl {name} {config.name}")
    settings = {
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": config.interactions.timezone,
        **config.spark.conf,
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    # Only a running session knows what spark-submit and spark-defaults.conf gave.
    given = spark.sparkContext.getConf()
    for key, value in DEFAULTS.items():
        if not given.contains(key):
            spark.conf.set(key, value)
    spark.sparkContext.setLogLevel("ERROR")
    try:
        yield spark
    finally:
        spark.stop()


@contextlib.contextmanager
def stage_progress(spark: SparkSession, logger: logging.Logger, what: str) -> Iterator[None]:
    """Log finished tasks with rate and time left while the block runs Spark stages."""
    tracker, stop = spark.sparkContext.statusTracker(), threading.Event()

    def watch() -> None:
        progress: dict[int, Progress] = {}
        while not stop.wait(1.0):
            for stage in tracker.getActiveStageIds():
                info = tracker.getStageInfo(stage)
                if info and info.numTasks > 1:
                    report = progress.setdefault(stage, Progress(logger, f"{what} tasks", info.numTasks))
                    report.update(info.numCompletedTasks, stage=stage)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
