"""The shards job, killed without warning in the middle: the next run loses nothing and doubles nothing."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from htcl.artifacts import ArtifactStore
from htcl.config_file import load_config
from htcl.demo.project import prepare_demo
from htcl.ingest.catalog import build_catalog
from htcl.plan import plan
from htcl.schemas import SHARDS
from htcl.shards.index import read_index
from htcl.shards.reader import ShardReader
from htcl.tables import GrowingTable
from tests.integration.cluster import Done, kill, process_tree, python_workers, run_job, run_until, submit

SMALL = ("--set", "shards.max_mb=0.5")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated world whose catalog is checked."""
    path, _ = prepare_demo(tmp_path_factory.mktemp("world"), songs=96, seed=3)
    config = load_config(path)
    with ArtifactStore(config.workspace).create(plan(config)["catalog"].recipe) as draft:
        build_catalog(config, draft.path)
    return path


@pytest.fixture(scope="module")
def undisturbed(demo: Path) -> dict[str, str]:
    """What a run that nobody kills leaves: track -> hash of its log-mel."""
    folder = copied(demo, "undisturbed")
    done = run_job(submit("build_shards.py", demo, *SMALL, "--set", f"workspace={folder}"))
    assert done.returncode == 0, done.output
    return checked(demo, folder)


def copied(demo: Path, name: str) -> Path:
    source = Path(load_config(demo).workspace)
    return shutil.copytree(source, source.with_name(name))


def checked(demo: Path, folder: Path) -> dict[str, str]:
    """The index of a workspace, each of whose rows has the bytes of its hash."""
    config = load_config(demo, [f"workspace={folder}"])
    index = read_index(ArtifactStore(str(folder)).fetch("shards", plan(config)["shards"].key))
    table = GrowingTable(str(folder), "shards", SHARDS).read()
    assert table.sort_by("track_id").cast(SHARDS).equals(index)
    ShardReader(str(folder / "shards"), index).read(np.arange(len(index)))
    tracks = index["track_id"].to_pylist()
    assert len(set(tracks)) == len(tracks)
    return dict(zip(tracks, index["content_hash"].to_pylist(), strict=True))


def driver() -> psutil.Process:
    """The job that this process has submitted."""
    (found,) = (child for child in psutil.Process().children() if "build_shards.py" in " ".join(child.cmdline()))
    return found


def killed(demo: Path, folder: Path, master: str, act: Callable[[], None]) -> Done:
    """Run the job, and do something as soon as a task has written a shard."""
    command = submit("build_shards.py", demo, *SMALL, "--set", f"workspace={folder}", master=master)
    return run_until(command, lambda: any(folder.glob("shards/*.tar")), act)


def test_a_killed_driver(demo: Path, undisturbed: dict[str, str]) -> None:
    folder, orphans, decoders = copied(demo, "driver"), [], []

    def act() -> None:
        job, *others = process_tree(driver().pid)
        orphans.extend(others)
        for process in others:
            with contextlib.suppress(psutil.Error):  # one that has just ended
                decoders.extend([process] if "htcl.audio.child" in process.cmdline() else [])
        job.kill()

    assert killed(demo, folder, "local[2]", act).returncode == -9
    assert decoders
    _, left = psutil.wait_procs(orphans, timeout=120)
    assert left == []
    assert GrowingTable(str(folder), "shards", SHARDS).version() == -1  # all songs are in one round, which is lost
    done = run_job(submit("build_shards.py", demo, *SMALL, "--set", f"workspace={folder}"))
    assert done.returncode == 0, done.output
    assert checked(demo, folder) == undisturbed


def test_a_killed_python_worker(demo: Path, undisturbed: dict[str, str]) -> None:
    folder, victims = copied(demo, "worker"), []

    def act() -> None:
        victims.extend(python_workers(driver().pid)[:1])
        kill(victims)

    done = killed(demo, folder, "local[2,4]", act)
    assert victims
    assert done.returncode == 0, done.output
    assert checked(demo, folder) == undisturbed
