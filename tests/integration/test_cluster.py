"""Each Spark job on a standalone cluster of processes, one of whose workers is killed in the middle of it.

What it leaves must be what a run in local mode leaves.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.demo.project import prepare_demo
from htcl.embeddings.work import embeddings_table
from htcl.ingest.catalog import build_catalog, read_catalog
from htcl.pairs.store import pair_table
from htcl.plan import plan
from htcl.schemas import SHARDS
from htcl.tables import GrowingTable
from htcl.users import load_user_key
from tests.embedding_workspace import make_workspace, publish_songs, write_shards

from .cluster import INFRA, Cluster, kill_worker, python_workers, run_job, run_until, running_cluster, submit


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated world, and a workspace beside it that holds its catalog."""
    path, _ = prepare_demo(tmp_path_factory.mktemp("world"), songs=96, seed=3)
    config = load_config(path)
    with ArtifactStore(config.workspace).create(plan(config)["catalog"].recipe) as draft:
        build_catalog(config, draft.path)
    return path


def run_both(cluster: Cluster, job: str, path: Path, written: str, *options: str) -> tuple[PipelineConfig, ...]:
    """Run a job on the cluster, where a worker is killed in the middle, and another time in local mode.

    A job is in the middle when the first file of its tasks is there: each core runs one of many tasks, so one is lost
    with the worker, provided that it has a Python process by then.

    Args:
        cluster: with two workers.
        job: the script.
        path: the configuration; each run gets a copy of its workspace.
        written: pattern, in a workspace, of the files that the tasks write.
        options: of the job.

    Returns:
        The configurations of the two.
    """
    source = Path(load_config(path).workspace)
    folders = [shutil.copytree(source, source.with_name(f"{job}-{name}")) for name in ("cluster", "local")]
    commands = [[*options, "--set", f"workspace={folder}"] for folder in folders]
    victim, at_kill = cluster.workers[0], []

    def begun() -> bool:
        return bool(python_workers(victim)) and any(folders[0].glob(written))

    def act() -> None:
        at_kill.append(len(list(folders[0].glob(written))))
        kill_worker(victim)

    done = run_until(submit(job, path, *commands[0], master=cluster.master), begun, act)
    assert done.returncode == 0, done.output
    assert at_kill, f"the job was over before it was seen to begin:\n{done.output}"
    assert at_kill[0] < 0.75 * len(list(folders[0].glob(written))), "the worker was killed too late"
    assert "Lost executor" in done.output
    done = run_job(submit(job, path, *commands[1]))
    assert done.returncode == 0, done.output
    return tuple(load_config(path, [f"workspace={folder}"]) for folder in folders)


def test_mine_pairs_survives_a_killed_worker(cluster: Cluster, demo: Path, tmp_path: Path) -> None:
    demo = shutil.copytree(demo.parent, tmp_path / "world") / demo.name  # other tests want a world without shards
    config = load_config(demo)
    steps = plan(config)
    tracks = read_catalog(ArtifactStore(config.workspace).fetch("catalog", steps["catalog"].key))["track_id"]
    # A snapshot has the songs of the index; what they sound like is all one.
    publish_songs(config, write_shards(config.workspace, dict.fromkeys(tracks.to_pylist(), 20), 1 << 20), steps)
    load_user_key(config.workspace)  # makes one, which the copies of the workspace then share
    configs = run_both(cluster, "mine_pairs.py", demo, "tables/pair_counts/*/*.parquet")
    ours, theirs = (pair_table(config.workspace).read() for config in configs)
    assert len(ours) > 1000
    assert in_order(ours) == in_order(theirs)


def in_order(counts: pa.Table) -> list[tuple[object, ...]]:
    names = sorted(counts.column_names, key=lambda name: name not in ("dt", "source", "anchor_id", "positive_id"))
    return sorted(tuple(map(str, row)) for row in zip(*(counts[name].to_pylist() for name in names), strict=True))


def test_build_shards_survives_a_killed_worker(cluster: Cluster, demo: Path) -> None:
    configs = run_both(cluster, "build_shards.py", demo, "shards/*.tar", "--set", "shards.max_mb=0.5")
    ours, theirs = (GrowingTable(config.workspace, "shards", SHARDS).read() for config in configs)
    assert len(ours) > 90
    columns = ["track_id", "content_hash", "frames", "split_group", "split"]
    assert ours.sort_by("track_id").select(columns) == theirs.sort_by("track_id").select(columns)


def test_embed_catalog_survives_a_killed_worker(cluster: Cluster, tmp_path: Path) -> None:
    frames = {f"t{number:03d}": 600 + 7 * (number % 50) for number in range(200)}
    path, _ = make_workspace(tmp_path, frames, max_bytes=100_000, embedding={"batch_size": 2})
    written = "tables/embeddings/*/*.parquet"
    configs = run_both(cluster, "embed_catalog.py", path, written)
    tables = [embeddings_table(config.workspace) for config in configs]
    order = [("model_id", "ascending"), ("track_id", "ascending")]
    ours, theirs = (table.read().sort_by(order) for table in tables)
    identity = ["model_id", "track_id", "content_hash", "text_hash"]
    assert len(ours) == 2 * len(frames)
    assert ours.select(identity) == theirs.select(identity)
    for column in ("embedding", "fusion_embedding"):
        for mine, expected in zip(ours[column].to_pylist(), theirs[column].to_pylist(), strict=True):
            assert mine == expected is None or np.allclose(mine, expected, atol=1e-6)
    # Only the task that was killed may have left a file that nobody was told of.
    assert len(list(Path(configs[0].workspace).glob(written))) - len(tables[0].parts()) in (0, 1)


def test_a_gpu_that_spark_schedules_reaches_the_task(tmp_path: Path) -> None:
    # A host whose nvidia-smi knows GPU 5, which torch does not: the task says so.
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 5\n")
    tool.chmod(0o755)
    path, _ = make_workspace(tmp_path, {"t1": 40})
    resource = "-Dspark.worker.resource.gpu"
    options = f"{resource}.amount=1 {resource}.discoveryScript={INFRA}/discover_gpus.sh"
    asked = {
        "spark.executor.resource.gpu.amount": "1",
        "spark.task.resource.gpu.amount": "1",
        "spark.task.maxFailures": "1",
    }
    with running_cluster({"SPARK_WORKER_OPTS": options}, tools=tmp_path) as cluster:
        done = run_job(submit("embed_catalog.py", path, master=cluster.master, conf=asked))
    assert done.returncode == 1
    assert "this task was given GPU '5', but torch" in done.output.splitlines()[-1]
