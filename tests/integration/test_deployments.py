"""The deployments of prefect.yaml on a server with PostgreSQL and two workers: the first run, a backfill, a night."""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from htcl.artifacts import ArtifactStore
from htcl.champion import require_champion
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.demo.project import prepare_demo
from htcl.pairs.store import pair_table
from htcl.publish import read_judgement
from htcl.schemas import PAIR_COUNTS

from .harness import ONE_RANK, TINY, Htcl
from .postgresql import PASSWORD, dump, postgresql, programs
from .serving import Serving, free_port, serving
from .terminal import CTRL_C, terminal

SONGS = 48
DEPLOYMENTS = ("full-pipeline", "nightly-finetune", "backfill")
SECRETS = {name: f"{name}-is-not-for-logs" for name in ("user-key", "storage", "mlflow")}


@pytest.fixture(scope="module")
def served(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server on PostgreSQL, where that is installed, and two workers that know secrets."""
    folder = tmp_path_factory.mktemp("serving")
    secrets = {
        "HTCL_JOB_TEMPLATE": "infra/prefect/secrets.json",
        "AWS_SECRET_ACCESS_KEY": SECRETS["storage"],
        "MLFLOW_TRACKING_URI": f"http://ann:{SECRETS['mlflow']}@127.0.0.1:{free_port()}",  # nobody listens there
    }
    with contextlib.ExitStack() as stack:
        more = {}
        if programs():
            more["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = stack.enter_context(postgresql())
        found = stack.enter_context(serving({**environment, **secrets}, folder / "log", **more))
        found.create_block("secret", "htcl-user-key", value=SECRETS["user-key"])
        found.start_worker()
        found.start_worker()
        yield found


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a world that no run has seen."""
    path, _ = prepare_demo(tmp_path_factory.mktemp("world"), songs=SONGS, seed=3)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "pairs": {"min_users": 2}, **TINY, **ONE_RANK}))
    return path


@pytest.fixture(scope="module")
def config(config_path: Path) -> PipelineConfig:
    """The same, loaded."""
    return load_config(config_path)


def add_song(config_path: Path, like: str) -> str:
    """Put a new song into the catalog, with the audio of another one under a new name."""
    values = yaml.safe_load(config_path.read_text())
    catalog = config_path.parent / values["catalog"]["path"]
    rows = [json.loads(line) for line in catalog.read_text().splitlines()]
    song = next(row for row in rows if row["track_id"] == like)
    audio = Path(song["audio_path"])
    path = audio.with_stem("new-song")
    shutil.copy(catalog.parent / audio, catalog.parent / path)
    row = {**song, "track_id": "NEW", "title": "Brand new", "audio_path": str(path)}
    with catalog.open("a") as lines:
        lines.write(json.dumps(row) + "\n")
    return "NEW"


def test_the_full_pipeline_publishes_a_set(served: Serving, config_path: Path, config: PipelineConfig) -> None:
    outcome = served.run("full-pipeline", config=config_path)
    assert outcome == f"published {require_champion(config.workspace).stage2}"
    assert not (Path(config.workspace) / "secrets").exists()  # it took the key of the block
    assert len({worker["name"] for worker in served.get("/work_pools/htcl/workers/filter", {})}) == 2


def test_a_backfill_counts_days_in_parallel_or_only_says_so(
    served: Serving, config_path: Path, config: PipelineConfig
) -> None:
    counts, order = pair_table(config.workspace), [(name, "ascending") for name in PAIR_COUNTS.names[:4]]
    version, rows = counts.version(), counts.read().sort_by(order)
    days = {"start": "2025-03-01", "end": "2025-03-03"}
    assert "dry run: would rewrite 3 days in 1 jobs" in served.run(
        "backfill", config=config_path, dry_run="true", **days
    )
    assert counts.version() == version
    chunks = json.dumps({"steps": {"backfill_days": 2}})
    assert "rewrote 3 days in 2 jobs" in served.run("backfill", config=config_path, settings=chunks, **days)
    assert counts.version() == version + 2  # a commit each
    assert counts.read().sort_by(order).equals(rows)


def test_the_nightly_run_publishes_new_songs_and_judges_a_tuned_model(
    served: Serving, config_path: Path, config: PipelineConfig, htcl: Htcl
) -> None:
    before, store = require_champion(config.workspace), ArtifactStore(config.workspace)
    new = add_song(config_path, like="T000003")
    served.run("nightly-finetune", config=config_path)
    tuned = [m for m in store.manifests("stage2") if "champion" in m["inputs"]]
    assert [m["inputs"]["champion"] for m in tuned] == [before.stage2]
    judgement = read_judgement(config.workspace, tuned[0]["key"])
    assert judgement is not None and judgement.champion == before.stage2
    assert judgement.reasons and judgement.drift is not None and judgement.drift["songs"] > SONGS - 10
    found = htcl("similar", new, "--config", config_path, "-k", 3)
    assert "T000003" in found.stdout  # its twin; a new song does not wait for a new model


def test_no_secret_stands_in_a_log_a_manifest_or_the_database(served: Serving, config_path: Path) -> None:
    runs = served.get("/flow_runs/filter", {})
    assert len([run for run in runs if run["state"]["type"] == "COMPLETED"]) > 3
    lines = [line for run in runs for line in served.logs(run["id"])]
    assert any("MLflow" in line for line in lines)  # which complains, and quotes its address
    told = json.dumps([runs, lines, served.get("/artifacts/filter", {})]) + served.log.read_text()
    if url := served.env.get("PREFECT_SERVER_DATABASE_CONNECTION_URL"):
        database = dump(url)
        assert all(run["name"] in database for run in runs)
        told += database
    for secret in (*SECRETS.values(), PASSWORD):
        assert secret not in told
        for file in config_path.parent.rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_one_command_in_a_terminal_serves_the_deployments_of_a_configuration_until_ctrl_c(
    environment: dict[str, str], config_path: Path, tmp_path: Path
) -> None:
    port = free_port()
    own = {
        **environment,
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_SERVER_API_PORT": str(port),
        "HTCL_DEPLOY_CONFIG": str(config_path),
    }
    with terminal(["bash", "infra/prefect/serve.sh"], own) as serve:
        serve.await_words("started!")  # the worker, behind the deployments
        found = ask(port, "deployments/filter")
        assert {item["name"] for item in found} == set(DEPLOYMENTS)
        assert {item["parameters"]["config"] for item in found} == {str(config_path)}
        nightly = next(item for item in found if item["name"] == "nightly-finetune")
        assert [schedule["schedule"]["cron"] for schedule in nightly["schedules"]] == ["0 3 * * *"]
        serve.type(CTRL_C)
        serve.await_end()
    with pytest.raises(OSError):
        ask(port, "deployments/filter")


def ask(port: int, path: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/{path}", data=b"{}", headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return list(json.load(answer))
