"""One small world and one finished run that the integration tests look at from all sides."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from htcl.config_file import load_config
from htcl.demo.project import prepare_demo

from .harness import BIN, ROOT, SONGS, TINY, Htcl, Run


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("prefect")
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **quiet, "PATH": path, "PREFECT_HOME": str(home), "HTCL_HOME": str(ROOT)}


@pytest.fixture(scope="session")
def htcl(environment: dict[str, str]) -> Htcl:
    """Run the command as a user does."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "htcl"), *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    return run


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's configuration on a small world, with little training."""
    path, _ = prepare_demo(tmp_path_factory.mktemp("demo"), songs=SONGS, seed=3)
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**values, "pairs": {"min_users": 2}, **TINY}))
    return path


@pytest.fixture(scope="session")
def demo_run(tiny_config: Path, htcl: Htcl, environment: dict[str, str]) -> Run:
    """A run that is killed without warning when stage 1 starts, and a second one that finishes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.full_pipeline", str(tiny_config)],
        env={**environment, "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "stage1: runs" in line:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.wait()
    second = htcl("run", tiny_config)
    assert second.returncode == 0, second.stdout[-4000:] + second.stderr[-2000:]
    return Run(tiny_config, load_config(tiny_config), "".join(lines), second.stdout)


@pytest.fixture
def own_run(demo_run: Run, tmp_path: Path) -> Run:
    """A copy of the finished run, for a test that adds to it."""
    folder = shutil.copytree(demo_run.path.parent, tmp_path / "own")
    path = folder / demo_run.path.name
    return Run(path, load_config(path), demo_run.killed, demo_run.finished)
