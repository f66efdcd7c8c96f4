"""One small world and one finished run that the integration tests look at from all sides."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from htcl.config_file import load_config
from htcl.demo.project import CONFIG_FILE, prepare_demo
from htcl.flow_process import flow_environment

from .harness import BIN, ROOT, SONGS, TINY, Htcl, Run
from .serving import serving

MadeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of what runs here, with a Prefect server: without one, each `htcl run` starts its own for many seconds."""
    folder = tmp_path_factory.mktemp("prefect")
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    own = {**os.environ, **quiet, "PATH": path, "PREFECT_HOME": str(folder / "home"), "HTCL_HOME": str(ROOT)}
    with serving(own, folder / "log") as served:
        yield {**own, "PREFECT_API_URL": served.env["PREFECT_API_URL"]}


@pytest.fixture(scope="session")
def htcl(environment: dict[str, str]) -> Htcl:
    """Run the command as a user does."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "htcl"), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
            **{"env": environment, **options},  # type: ignore[call-overload]
        )

    return run


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MadeOnce:
    """Fill a named folder once for all workers of this pytest run; the others wait for it."""
    base = tmp_path_factory.getbasetemp()
    root = base if worker_id == "master" else base.parent

    def fill(name: str, make: Callable[[Path], None]) -> Path:
        folder = root / name
        with FileLock(f"{folder}.lock"):
            if not (folder / "made").exists():
                folder.mkdir()  # a second try after a failure stops here: its first error is the one to read
                make(folder)
                (folder / "made").touch()
        return folder

    return fill


@pytest.fixture(scope="session")
def tiny_config(made_once: MadeOnce) -> Path:
    """The demo's configuration on a small world, with little training."""

    def make(folder: Path) -> None:
        path, _ = prepare_demo(folder, songs=SONGS, seed=3)
        values = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**values, "pairs": {"min_users": 2}, **TINY}))

    return made_once("demo", make) / CONFIG_FILE


@pytest.fixture(scope="session")
def demo_run(tiny_config: Path, made_once: MadeOnce, htcl: Htcl, environment: dict[str, str]) -> Run:
    """A run that is killed without warning when stage 1 starts, and a second one that finishes."""

    def make(folder: Path) -> None:
        # As a user without a server has it, and what this home holds is of these two runs alone.
        own = {name: value for name, value in environment.items() if name != "PREFECT_API_URL"}
        own["PREFECT_HOME"] = str(folder / "prefect")
        (folder / "killed").write_text(killed_at_stage1(tiny_config, own))
        second = htcl("run", tiny_config, env=own)
        assert second.returncode == 0, second.stdout[-4000:] + second.stderr[-2000:]
        (folder / "finished").write_text(second.stdout)

    printed = made_once("printed", make)
    killed, finished = ((printed / name).read_text() for name in ("killed", "finished"))
    return Run(tiny_config, load_config(tiny_config), killed, finished, printed / "prefect")


def killed_at_stage1(config: Path, environment: dict[str, str]) -> str:
    """Run the pipeline, kill it when stage 1 starts; gives what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.full_pipeline", f"config={config}"],
        env={**flow_environment(), **environment},
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
    return "".join(lines)


@pytest.fixture
def own_run(demo_run: Run, tmp_path: Path) -> Run:
    """A copy of the finished run, for a test that adds to it."""
    folder = shutil.copytree(demo_run.path.parent, tmp_path / "own")
    path = folder / demo_run.path.name
    return replace(demo_run, path=path, config=load_config(path))
