"""One local Spark for all tests of the jobs; a test that needs another time zone borrows it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyspark.sql import SparkSession

from htcl.config import PipelineConfig
from htcl.config_file import validate_config

TIME_ZONE = "spark.sql.session.timeZone"


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        settings = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.shuffle.partitions": "2",
            TIME_ZONE: "UTC",
            "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        }
        session = (
            SparkSession.builder.master("local[2]").appName("tests of the jobs").config(map=settings).getOrCreate()
        )
        session.sparkContext.setLogLevel("OFF")
        yield session
        session.stop()


@pytest.fixture
def time_zone(spark: SparkSession) -> Iterator[Callable[[str], None]]:
    """Set the session's time zone, as `interactions.timezone` does, for one test."""
    yield lambda name: spark.conf.set(TIME_ZONE, name)
    spark.conf.set(TIME_ZONE, "UTC")


@pytest.fixture(scope="session")
def configured() -> Callable[..., PipelineConfig]:
    """A checked configuration of some sections over the defaults."""

    def config(**sections: Any) -> PipelineConfig:
        interactions = {"path": "log", **sections.pop("interactions", {})}
        values = {"workspace": "workspace", "catalog": {"path": "catalog"}, "interactions": interactions}
        return validate_config({**values, **sections}, "test")

    return config
