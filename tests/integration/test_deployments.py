"""The deployments of prefect.yaml on a real server and a real worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from htcl.artifacts import ArtifactStore
from htcl.champion import require_champion
from htcl.schemas import PAIR_COUNTS
from htcl.tables import GrowingTable

from .harness import BIN, ROOT, Htcl, Run


@pytest.fixture(scope="module")
def served(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """`make serve`'s script on a free port, and the environment that talks to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    env = {**environment, "PREFECT_SERVER_API_PORT": port, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    printed = tmp_path_factory.mktemp("serve") / "log"
    with printed.open("w") as out:
        process = subprocess.Popen(
            ["bash", "infra/prefect/serve.sh"], cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True
        )
    deadline = time.monotonic() + 180
    while "started!" not in printed.read_text():
        assert process.poll() is None, printed.read_text()
        assert time.monotonic() < deadline, printed.read_text()
        time.sleep(0.5)
    yield env
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(120)


def deploy_run(env: dict[str, str], name: str, **parameters: object) -> str:
    command = [str(BIN / "prefect"), "deployment", "run", f"htcl/{name}", "--watch"]
    for key, value in parameters.items():
        command += ["--param", f"{key}={value}"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


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


def test_the_three_deployments_run_on_a_worker(own_run: Run, served: dict[str, str], htcl: Htcl) -> None:
    config, store = own_run.config, ArtifactStore(own_run.config.workspace)
    before, made = require_champion(config.workspace), store.manifests("stage2") + store.manifests("report")
    deploy_run(served, "full-pipeline", config=own_run.path)
    assert store.manifests("stage2") + store.manifests("report") == made  # nothing changed, so nothing ran
    assert require_champion(config.workspace) == before

    counts = GrowingTable(config.workspace, "pair_counts", PAIR_COUNTS, partition_by="dt")
    version, rows = counts.version(), counts.read().sort_by([(n, "ascending") for n in PAIR_COUNTS.names[:4]])
    deploy_run(served, "backfill", config=own_run.path, start="2025-03-01", end="2025-03-03")
    assert counts.version() == version + 1
    again = counts.read().sort_by([(n, "ascending") for n in PAIR_COUNTS.names[:4]])
    assert again.equals(rows)

    new = add_song(own_run.path, like="T000003")
    deploy_run(served, "nightly-finetune", config=own_run.path)
    tuned = [m for m in store.manifests("stage2") if "champion" in m["inputs"]]
    assert [m["inputs"]["champion"] for m in tuned] == [before.stage2]
    decision = json.loads((Path(config.workspace) / "published" / "decisions" / f"{tuned[0]['key']}.json").read_text())
    assert decision["champion"] == before.stage2
    assert {row["n"] for row in decision["comparisons"]} and decision["reasons"]
    found = htcl("similar", new, "--config", own_run.path, "-k", 3)
    assert "T000003" in found.stdout  # its twin; a new song does not wait for a new model
