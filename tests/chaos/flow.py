"""A flow run as a process, what it prints, and the processes that it has started."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from htcl.flow_process import DONE_PREFIX, FAILED_PREFIX
from tests.integration.harness import ROOT

MARK = "HTCL_CHAOS"
"""Variable that all processes of a flow inherit."""
ROLES = {
    "flow": "flows.full_pipeline",
    "driver": "org.apache.spark.deploy.SparkSubmit",
    "task worker": "pyspark.daemon",
    "launcher": "htcl.training.agent",
    "rank": "htcl.training.worker",
    "box": "htcl.boxes",
}
"""What the command line of a process holds, by the role that it has."""
SERVED = "served"
"""What MARK says of Prefect's server, its workers and what they start."""
LIMIT_SECONDS = 600.0
_RUNS = re.compile(r"(\w+): runs, because")
_FINISHED = re.compile(r"Task run '(\w+)' - Finished in state")


@dataclass(frozen=True)
class Span:
    """Seconds since the start of a run in which there were processes of a role."""

    first: float
    last: float


@dataclass
class Flow:
    """A flow run; it may be one that a Prefect worker started, where there is no process of ours."""

    process: subprocess.Popen[str]
    mark: str
    started: float
    lines: list[str] = field(default_factory=list)

    @property
    def steps(self) -> list[str]:
        """The steps that have begun, in their order."""
        return self._found(_RUNS)

    @property
    def working(self) -> set[str]:
        """The steps that have begun and not ended."""
        return set(self.steps) - set(self._found(_FINISHED))

    def _found(self, what: re.Pattern[str]) -> list[str]:
        return [found[1] for line in self.lines if (found := what.search(line))]

    @property
    def sentence(self) -> str:
        """Why it failed; empty where it did not say."""
        said = [line.removeprefix(FAILED_PREFIX) for line in self.lines if line.startswith(FAILED_PREFIX)]
        return said[-1].strip() if said else ""

    @property
    def done(self) -> bool:
        """Whether it ended well."""
        return self.process.poll() == 0 and any(line.startswith(DONE_PREFIX) for line in self.lines)

    def processes(self, role: str = "") -> list[psutil.Process]:
        """What it has started and is still there; of one role, or all but the flow itself."""
        return [process for name, process in marked(self.mark) if name == role or (not role and name != "flow")]

    def wait(self) -> None:
        """Until the process has ended, and everything that it started.

        Raises:
            AssertionError: where something stays.
        """
        self.process.wait(LIMIT_SECONDS)
        deadline = time.monotonic() + 60
        while left := marked(self.mark):
            assert time.monotonic() < deadline, f"still there after the run: {left}"
            time.sleep(0.2)


def start_flow(config: Path, environment: dict[str, str], prefix: tuple[str, ...] = ()) -> Flow:
    """Start the full pipeline on a configuration.

    Args:
        config: its path.
        environment: of the process.
        prefix: of the command.
    """
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [*prefix, sys.executable, "-u", "-m", "flows.full_pipeline", f"config={config}"],
        env={**environment, MARK: mark},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    flow = Flow(process, mark, time.monotonic())
    assert process.stdout
    threading.Thread(target=flow.lines.extend, args=(process.stdout,), daemon=True).start()
    return flow


def marked(mark: str) -> list[tuple[str, psutil.Process]]:
    """All processes of a flow run, each with its role."""
    found = []
    needle = f"{MARK}={mark}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, psutil.Error):  # it ended meanwhile
            if needle in (place / "environ").read_bytes():
                command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                role = next((role for role, word in ROLES.items() if word in command), command[:60])
                found.append((role, psutil.Process(int(place.name))))
    return found


def watch(flow: Flow) -> Iterator[tuple[str, str, float]]:
    """(role, step, seconds since the start) of what is there, again and again until the flow ends."""
    while flow.process.poll() is None:
        seconds, steps = time.monotonic() - flow.started, flow.working
        for role in {role for role, _ in marked(flow.mark)}:
            yield from ((role, step, seconds) for step in steps)
        time.sleep(0.1)


def run_undisturbed(config: Path, environment: dict[str, str]) -> tuple[float, dict[tuple[str, str], Span]]:
    """Run a flow to its end: seconds, and when there were processes of each role in each step.

    Raises:
        AssertionError: with its last lines, where it fails.
    """
    flow = start_flow(config, environment)
    spans: dict[tuple[str, str], Span] = {}
    for role, step, seconds in watch(flow):
        spans[role, step] = Span(spans[role, step].first if (role, step) in spans else seconds, seconds)
    flow.wait()
    assert flow.done, "".join(flow.lines[-40:])
    return time.monotonic() - flow.started, spans
