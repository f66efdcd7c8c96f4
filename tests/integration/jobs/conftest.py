"""One local Spark for all tests of the jobs, and workspaces whose catalog and shards are only named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from htcl.artifacts import ArtifactStore, Recipe
from htcl.config import PipelineConfig
from htcl.config_file import validate_config
from htcl.ingest.catalog import CATALOG_FILE, CHECKED_CATALOG
from htcl.schemas import SHARDS
from htcl.shards.index import write_index


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        settings = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        }
        session = (
            SparkSession.builder.master("local[2]").appName("tests of the jobs").config(map=settings).getOrCreate()
        )
        session.sparkContext.setLogLevel("OFF")
        yield session
        session.stop()


@pytest.fixture(scope="session")
def configured() -> Callable[..., PipelineConfig]:
    """A checked configuration of some sections over the defaults."""

    def config(**sections: Any) -> PipelineConfig:
        interactions = {"path": "log", **sections.pop("interactions", {})}
        pairs = {"buckets": 2, **sections.pop("pairs", {})}
        values = {"workspace": "workspace", "catalog": {"path": "catalog"}, "interactions": interactions}
        return validate_config({**values, "pairs": pairs, **sections}, "test")

    return config


@pytest.fixture(scope="session")
def make_songs() -> Callable[..., dict[str, str]]:
    """Publish a catalog and shards that hold some songs; returns their keys by step."""

    def publish(workspace: Path, sides: Mapping[str, str], artists: Mapping[str, str] | None = None) -> dict[str, str]:
        store, artists = ArtifactStore(str(workspace)), artists or {}
        rows = [{"track_id": t, "split": s, "artist": artists.get(t), "split_group": t} for t, s in sides.items()]
        keys = {}
        for kind in ("catalog", "shards"):
            recipe = Recipe(kind, 0, {"sides": dict(sides), "artists": dict(artists)}, {})
            keys[kind] = recipe.key
            with store.create(recipe) as draft:
                if kind == "catalog":
                    pq.write_table(filled(rows, CHECKED_CATALOG), draft.path / CATALOG_FILE)
                else:
                    write_index(filled(rows, SHARDS), draft.path)
        return keys

    return publish


def filled(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows with something in every column that may not be null."""
    some = {field.name: "x" if pa.types.is_string(field.type) else 0 for field in schema if not field.nullable}
    return pa.Table.from_pylist(
        [{**some, **{k: v for k, v in row.items() if k in schema.names}} for row in rows], schema
    )
