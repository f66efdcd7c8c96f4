"""Starts the ranks of a training stage on one or more hosts, watches them, and judges how they ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, CancelledError, InvalidStateError, ThreadPoolExecutor, wait
from concurrent.futures import Future as Waiting
from itertools import accumulate
from pathlib import Path

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.errors import HTCLError, PassingError
from htcl.logs import parse_line
from htcl.plan import Step
from htcl.processes import run_process, sessions_end
from htcl.training.agent import EXIT_INTERRUPTED, RENDEZVOUS, STOP_SECONDS, Job
from htcl.training.cause import Cause
from htcl.training.hosts import Host, training_hosts
from htcl.training.liveness import ALIVE
from htcl.training.pulses import Pulses
from htcl.training.worker import describe

BEAT_SECONDS = 1.0
"""Between two signs of life to an agent."""
_FORWARDED = (
    "AWS_",
    "CUDA_",
    "DS_",
    "FSSPEC_",
    "GLOO_",
    "HF_",
    "MLFLOW_",
    "NCCL_",
    "OMP_",
    "PYTHON",
    "TORCH_",
)
_FORWARDED_NAMES = ("LD_LIBRARY_PATH", "TMPDIR")


def run_stage(config: PipelineConfig, step: Step, on_line: Callable[[str], None]) -> None:
    """Train a stage in processes of their own, of which rank 0 publishes the model.

    A run that is started again goes on from the newest checkpoint of the same key. The published model, not an exit
    code, says that it worked.

    Args:
        config: the configuration.
        step: stage1 or stage2.
        on_line: gets every output line of every rank.

    Raises:
        HTCLError: when the ranks ended without publishing the model: the sentence of who knows the cause.
        PassingError: the same, where that was a lost rank or host.
    """
    run = _Run(config, step, on_line)
    codes = run.run()
    if not ArtifactStore(config.workspace).published(step.name, step.key):
        failed = set(codes) - {0, EXIT_INTERRUPTED, 128 + signal.SIGTERM}  # the others were asked to end
        if EXIT_INTERRUPTED in codes and not failed and not run.cause.known:
            raise PassingError(
                f"{step.name}: interrupted; what is done is in a checkpoint, from which the next run goes on"
            )
        kind = PassingError if run.cause.passing else HTCLError
        raise kind(run.cause.describe(step.name, max(failed or codes)))


class _Run:
    """The agents of all hosts, for one run."""

    def __init__(self, config: PipelineConfig, step: Step, on_line: Callable[[str], None]) -> None:
        self._config, self._step, self._on_line = config, step, on_line
        self._hosts = training_hosts(config.training)
        self._port: Waiting[int] = Waiting()
        self._stop, self._lock = threading.Event(), threading.Lock()
        hosts = [host.label for host in self._hosts for _ in range(host.slots)]
        self._pulses = Pulses(config.training.stall_seconds, hosts)
        self.cause = Cause()

    def run(self) -> list[int]:
        """Start the agents and wait for all; their exit codes."""
        firsts = [0, *accumulate(host.slots for host in self._hosts)]
        with ThreadPoolExecutor(len(self._hosts)) as pool:
            running = [pool.submit(self._run_host, host, firsts[i]) for i, host in enumerate(self._hosts)]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            finally:
                self._stop.set()
            return [future.result() for future in running]

    def _run_host(self, host: Host, first: int) -> int:
        try:
            code, tail = run_process(
                host.command,
                self._read,
                grace_seconds=self._config.training.grace_seconds + STOP_SECONDS,
                talk=lambda process: self._talk(process, host, first),
                timeout_seconds=self._config.steps.timeout_hours * 3600,
            )
        finally:
            if not self._port.done():  # the first agent died before it told
                self._port.cancel()
        if code:
            self._judge(host, code, tail)
            self._stop.set()
        return code

    def _judge(self, host: Host, code: int, tail: list[str]) -> None:
        # A log line, such as the last pulse, says nothing of the end.
        said = next((line.strip() for line in reversed(tail) if line.strip() and not parse_line(line)), "no output")
        if host.remote and code == 255:  # ssh's own
            self.cause.lost(f"the connection to host {host.name} failed: {said}")
        else:
            self.cause.ended(host.label, code, said)

    def _talk(self, process: subprocess.Popen[str], host: Host, first: int) -> None:
        """Send the job, then signs of life for as long as the run is wanted; the end of them ends the agent."""
        assert process.stdin is not None
        with contextlib.suppress(OSError, CancelledError), process.stdin as pipe:  # an agent that has ended says why
            pipe.write(self._job(host, first).to_line())
            pipe.flush()
            while not (self._stop.wait(BEAT_SECONDS) or sessions_end()) and process.poll() is None:
                pipe.write("\n")
                pipe.flush()
                self._watch_pulses()
        deadline = time.monotonic() + self._config.training.grace_seconds + STOP_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(BEAT_SECONDS / 4)
        if process.poll() is None:
            process.kill()

    def _job(self, host: Host, first: int) -> Job:
        hosts = self._hosts
        return Job(
            ranks=list(range(first, first + host.slots)),
            world_size=sum(each.slots for each in hosts),
            master_addr=hosts[0].name,
            master_port=0 if first == 0 else self._await_port(),
            grace_seconds=self._config.training.grace_seconds,
            env=self._environment(),
            work=describe(self._config, self._step),
        )

    def _await_port(self) -> int:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                return self._port.result(timeout=BEAT_SECONDS / 4)
        raise CancelledError

    def _environment(self) -> dict[str, str]:
        """Variables that the ranks of any host need; ssh passes none on."""
        env = {k: v for k, v in os.environ.items() if k.startswith(_FORWARDED) or k in _FORWARDED_NAMES}
        # ninja and deepspeed are looked up on PATH by the ranks.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**env, "PATH": path, "TOKENIZERS_PARALLELISM": "false"}

    def _watch_pulses(self) -> None:
        if sentence := self._pulses.stalled():
            self.cause.lost(sentence)
            self._stop.set()

    def _read(self, line: str) -> None:
        logged = parse_line(line)
        if logged and logged.message == RENDEZVOUS:
            with contextlib.suppress(InvalidStateError):  # another host has failed meanwhile
                self._port.set_result(int(logged.fields["port"]))
        elif logged and logged.message == ALIVE:
            self._pulses.note(logged.fields)
        else:
            with self._lock:
                self.cause.read(line)
                self._tell(line)

    def _tell(self, line: str) -> None:
        try:
            self._on_line(line)
        except BaseException:
            self._stop.set()  # the agents are asked before what carries their words is ended
            raise
