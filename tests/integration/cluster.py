"""A standalone Spark cluster of separate processes on loopback, and the sudden death of one of its workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from .harness import BIN, ROOT

INFRA = ROOT / "infra" / "spark"
LIGHT_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Options of a JVM that lives for seconds."""
WORKERS = 2
SUBMIT = {
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.driver.memory": "512m",
    "spark.executor.memory": "512m",
    "spark.driver.extraJavaOptions": LIGHT_JVM,
    "spark.executor.extraJavaOptions": LIGHT_JVM,
}
"""What only a test wants; the rest is what infra/spark gives everyone."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        master: its URL.
        workers: process ids of the workers.
        folder: logs and working folders.
    """

    master: str
    workers: list[int]
    folder: Path


@dataclass(frozen=True)
class Done:
    """A job that has ended."""

    returncode: int
    output: str


@contextlib.contextmanager
def running_cluster(environment: Mapping[str, str] | None = None, tools: Path | None = None) -> Iterator[Cluster]:
    """A master and two workers of one core each, started and ended by the scripts of infra/spark.

    Args:
        environment: added to theirs.
        tools: folder of programs that the workers find first.
    """
    with tempfile.TemporaryDirectory(prefix="htcl-spark-") as folder:
        env = _environment(tools) | {
            "SPARK_RUN_DIR": folder,
            "SPARK_MASTER_HOST": "127.0.0.1",
            "SPARK_MASTER_PORT": str(_free_port()),
            "SPARK_WORKER_CORES": "1",
            "SPARK_WORKER_MEMORY": "1g",
            "SPARK_DAEMON_MEMORY": "256m",
            **(environment or {}),
        }
        started: list[int] = []
        try:
            command = [INFRA / "start.sh", str(WORKERS)]
            done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, timeout=180, check=True)
            started = [int(path.read_text()) for path in sorted(Path(folder).glob("*.pid"))]  # the master's is first
            yield Cluster(done.stdout.split()[-1], started[1:], Path(folder))
        finally:
            trees = [tree for pid in started for tree in process_tree(pid)]
            subprocess.run([INFRA / "stop.sh"], env=env, timeout=120, check=False)
            kill(trees)


def submit(
    job: str, config: Path, *options: str, master: str = f"local[{WORKERS}]", conf: Mapping[str, str] | None = None
) -> list[str]:
    """The command that submits a job; `conf` are settings of Spark beside those that every test wants."""
    flags = [part for key, value in {**SUBMIT, **(conf or {})}.items() for part in ("--conf", f"{key}={value}")]
    script = str(ROOT / "jobs" / job)
    return [str(BIN / "spark-submit"), "--master", master, *flags, script, "--config", str(config), *options]


def run_job(command: list[str]) -> Done:
    """Run a submitted job to its end."""
    return run_until(command, lambda: False, lambda: None)


def run_until(command: list[str], begun: Callable[[], bool], act: Callable[[], None]) -> Done:
    """Run a submitted job and do something once, as soon as it has begun its work.

    Args:
        command: from `submit`.
        begun: says whether that is so; asked again and again.
        act: what is done then, unless the job ends before.
    """
    process = subprocess.Popen(
        command,
        env=_environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []
    assert process.stdout
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            if begun():
                act()
                break
            time.sleep(0.02)
        process.wait(timeout=600)
    finally:
        kill(process_tree(process.pid))
        reader.join(timeout=10)
    return Done(process.returncode, "".join(lines))


def process_tree(pid: int) -> list[psutil.Process]:
    """A process and all that descends from it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def python_workers(pid: int) -> list[psutil.Process]:
    """The Python processes below a worker that run tasks, or wait for one."""
    found = []
    for process in process_tree(pid):
        with contextlib.suppress(psutil.Error):
            if "pyspark.daemon" in " ".join(process.cmdline()):
                found.append(process)
    return found[1:]  # the first starts the others


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=60)


def kill_worker(pid: int) -> None:
    """SIGKILL a worker with its executors and their Python processes, as when its host is switched off."""
    os.kill(pid, signal.SIGSTOP)  # else it starts the executor anew between two kills
    kill(process_tree(pid))


def _environment(tools: Path | None = None) -> dict[str, str]:
    own = {"SPARK_CONF_DIR": str(INFRA), "PYSPARK_PYTHON": sys.executable, "HF_HUB_OFFLINE": "1"}
    path = [*([str(tools)] if tools else []), str(BIN), os.environ["PATH"]]
    return {**os.environ, **own, "PATH": os.pathsep.join(path)}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
