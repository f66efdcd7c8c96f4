"""The whole pipeline with every path in object storage gives what it gives on a disk."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from htcl import storage
from htcl.artifacts import MANIFEST, ArtifactStore
from htcl.champion import require_champion
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.pairs.store import pair_table
from htcl.plan import plan
from htcl.schemas import REJECTS
from htcl.shards.index import read_index
from htcl.tables import GrowingTable
from htcl.training.loop import work_folder
from htcl.users import KEY_VARIABLE, load_user_key
from tests.s3 import SECRET, object_storage

from .harness import BIN, ONE_RANK, ROOT, SONGS, Run

BUCKET = "music"
STEPS = ("catalog", "shards", "pairs", "stage1", "stage2", "gate_set", "evaluation", "embeddings", "index", "report")


@dataclass(frozen=True)
class Remote:
    """A configuration with every path in object storage, what its first run printed, and how to run commands."""

    path: Path
    config: PipelineConfig
    environment: dict[str, str]
    home: Path
    finished: str = ""

    def run(self, *command: object) -> str:
        """Run a command that has to succeed; gives what it printed."""
        done = subprocess.run(
            [str(BIN / str(command[0])), *map(str, command[1:])],
            env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-6000:]
        assert SECRET not in said and self.environment[KEY_VARIABLE] not in said
        return said


@pytest.fixture(scope="module")
def remote(demo_run: Run, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """The world of the local run, uploaded, and a finished run on it."""
    home = tmp_path_factory.mktemp("remote")
    (home / "tmp").mkdir()
    root = f"s3://{BUCKET}/a b ü"
    world = Path(demo_run.config.catalog.path).parent
    key = load_user_key(demo_run.config.workspace).decode()  # user sketches hold hashes by it
    values = {
        **yaml.safe_load(demo_run.path.read_text()),
        **ONE_RANK,
        "workspace": f"{root}/workspace",
        "catalog": {"path": f"{root}/world/catalog.jsonl", "audio_root": f"{root}/world/"},
        "interactions": {"path": f"{root}/world/interactions"},
    }
    path = home / "htcl.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    with object_storage(BUCKET) as reach, pytest.MonkeyPatch.context() as patch:
        for name, value in reach.items():
            patch.setenv(name, value)
        patch.setattr("tempfile.tempdir", str(home / "tmp"))
        names = [str(file.relative_to(world)) for file in world.rglob("*") if file.is_file()]
        storage.upload(world, f"{root}/world", names)
        own = {**environment, **reach, KEY_VARIABLE: key, "TMPDIR": str(home / "tmp")}
        fresh = Remote(path, load_config(path), own, home)
        yield replace(fresh, finished=fresh.run("htcl", "run", path))


def counts(config: PipelineConfig) -> pa.Table:
    order = [(name, "ascending") for name in ("dt", "source", "anchor_id", "positive_id")]
    return pair_table(config.workspace).read().sort_by(order).combine_chunks()


def index(config: PipelineConfig) -> dict[str, tuple[object, ...]]:
    """What the index says of each song, beside where it lies."""
    rows = read_index(ArtifactStore(config.workspace).fetch("shards", plan(config)["shards"].key)).to_pylist()
    return {
        row["track_id"]: tuple(row[name] for name in ("content_hash", "frames", "split", "split_group")) for row in rows
    }


def rejects(config: PipelineConfig) -> set[tuple[str, ...]]:
    rows = GrowingTable(config.workspace, "rejects", REJECTS, partition_by="source").read().to_pylist()
    return {(row["source"], row["key"], row["reason"]) for row in rows}


def test_counts_songs_and_rejects_equal_those_of_the_local_run(remote: Remote, demo_run: Run) -> None:
    assert len(counts(demo_run.config)) and counts(remote.config).equals(counts(demo_run.config))
    assert len(index(remote.config)) == SONGS - 2 and index(remote.config) == index(demo_run.config)
    assert len(rejects(remote.config)) > 2 and rejects(remote.config) == rejects(demo_run.config)


def test_every_artifact_is_published_whole_and_nothing_lies_beside(remote: Remote) -> None:
    store, steps = ArtifactStore(remote.config.workspace), plan(remote.config)
    assert set(steps) == set(STEPS)
    for name, step in steps.items():
        assert f"{name}: runs, because never run here" in remote.finished and step.published
        manifest = store.manifest(name, step.key)
        there = {file: size for file, (size, _) in storage.list_files(store.uri(name, step.key)).items()}
        assert there.pop(MANIFEST) > 0
        assert there == {f"{manifest['folder']}/{file}": size for file, size in manifest["files"].items()}
        assert not storage.exists(work_folder(remote.config, step))
    champion = require_champion(remote.config.workspace)
    assert (champion.stage2, champion.index) == (steps["stage2"].key, steps["index"].key)


def test_a_second_run_skips_every_step_and_status_knows(remote: Remote) -> None:
    again = remote.run("htcl", "run", remote.path)
    assert again.count("skipped, nothing changed") == len(STEPS) and ": runs, because" not in again
    page = Path(re.findall(r"report: (.*)", again)[-1])
    assert page.is_relative_to(remote.home) and "recall@10" in page.read_text()
    assert remote.run("htcl", "status", remote.path).count("published") >= len(STEPS)


def test_search_answers_from_another_host(remote: Remote, tmp_path: Path) -> None:
    """With nothing but the configuration: no copy of an artifact lies there yet."""
    host = Remote(remote.path, remote.config, {**remote.environment, "TMPDIR": str(tmp_path)}, tmp_path)
    assert host.run("htcl", "search", "slow sad waltz on a harp", "--config", remote.path, "-k", 5).count("T000") == 5
    assert "songs like" in host.run("htcl", "similar", "T000003", "--config", remote.path, "-k", 5)


def test_days_that_are_counted_again_come_out_the_same(remote: Remote) -> None:
    before, version = counts(remote.config), pair_table(remote.config.workspace).version()
    day = before["dt"][len(before) // 2].as_py()
    remote.run(
        "spark-submit", "--driver-memory", "1g", ROOT / "jobs" / "mine_pairs.py",
        "--config", remote.path, "--start", day, "--end", day,
    )  # fmt: skip
    assert pair_table(remote.config.workspace).version() == version + 1
    assert counts(remote.config).equals(before)


def test_nothing_of_the_run_lies_on_this_disk_but_copies(remote: Remote) -> None:
    """A URI that is taken for a path makes a folder `s3:` where the process runs."""
    assert not (ROOT / "s3:").exists() and not (remote.home / "s3:").exists()
    kept = {file.name for file in (remote.home / "tmp").iterdir()}
    assert all(re.match(r"htcl(-cache)?-\d+$", name) for name in kept if name.startswith("htcl")), kept
    for file in remote.home.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()
