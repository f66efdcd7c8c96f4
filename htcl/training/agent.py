"""Runs the ranks of one host for as long as who started it wants them.

It is started as a process of its own, by ssh on other hosts, and reads from standard input: first the job, one line of
JSON, then a line now and then as a sign of life. When those stop, or standard input is closed, or SIGTERM comes, its
ranks get SIGTERM, and SIGKILL after a grace. When a rank dies, the others of the host are ended. So nothing outlives
the one who started it, whatever happens to either or to the network between them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

from htcl.errors import PassingError
from htcl.logs import get_logger, log, log_sentence, parse_line, setup_logging
from htcl.processes import end_with_parent

EXIT_INTERRUPTED = 75
"""Exit code of a rank, and of its agent, that wrote a checkpoint after SIGTERM and left (EX_TEMPFAIL: try again)."""
SILENCE_SECONDS = 15.0
"""Without a sign of life for so long the other side counts as gone."""
LAST_WORDS_SECONDS = 3.0
"""Between the death of a rank and the end of the others, which may know why."""
STOP_SECONDS = LAST_WORDS_SECONDS + 2
"""For an agent to end, beside its ranks' grace; one that does not is killed, and by ssh's end so are its ranks."""
WORKER = ["-u", "-m", "htcl.training.worker"]
RENDEZVOUS = "rendezvous"
"""The message with the port that the first host's agent has found free."""
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Job:
    """What an agent is to run.

    Attributes:
        ranks: numbers of the ranks on this host.
        world_size: ranks on all hosts.
        master_addr: host of rank 0, as the others reach it.
        master_port: its port; 0: this is the first host and finds a free one.
        grace_seconds: between SIGTERM and SIGKILL, for a rank to finish its step and write a checkpoint.
        env: environment variables for the ranks.
        work: what the ranks read: configuration and recipe.
    """

    ranks: list[int]
    world_size: int
    master_addr: str
    master_port: int
    grace_seconds: float
    env: dict[str, str]
    work: dict[str, Any]

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self)) + "\n"


def main() -> None:
    """Read the job, run its ranks, leave with the exit code of the first that failed."""
    setup_logging()
    line = sys.stdin.readline()
    if not line:  # the run has ended before this host's turn came
        return
    job = Job(**json.loads(line))
    wanted = _Wanted()
    port = job.master_port or _free_port()
    if not job.master_port:
        log(get_logger("training"), RENDEZVOUS, port=port)
    ranks = [(rank, _start(job, rank, place, port)) for place, rank in enumerate(job.ranks)]
    printers = [threading.Thread(target=_forward, args=each, daemon=True) for each in ranks]
    for printer in printers:
        printer.start()
    code = _supervise(ranks, wanted, job.grace_seconds)
    for printer in printers:
        printer.join(1.0)
    sys.stderr.flush()
    os._exit(code)  # a thread may still wait for standard input


class _Wanted:
    """Whether the ranks are still wanted."""

    def __init__(self) -> None:
        self._last, self._ended = time.monotonic(), False
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGHUP, self._end)
        threading.Thread(target=self._listen, daemon=True).start()

    def __bool__(self) -> bool:
        return not self._ended and time.monotonic() - self._last < SILENCE_SECONDS

    def _end(self, *_: object) -> None:
        self._ended = True

    def _listen(self) -> None:
        for _ in sys.stdin:
            self._last = time.monotonic()
        self._ended = True


def _start(job: Job, rank: int, place: int, port: int) -> subprocess.Popen[str]:
    threads = max((os.cpu_count() or 1) // len(job.ranks), 1)
    ranked = {
        "RANK": rank,
        "LOCAL_RANK": place,
        "WORLD_SIZE": job.world_size,
        "MASTER_ADDR": job.master_addr,
        "MASTER_PORT": port,
    }
    process = subprocess.Popen(
        [sys.executable, *WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "OMP_NUM_THREADS": str(threads), **job.env, **{k: str(v) for k, v in ranked.items()}},
        preexec_fn=end_with_parent(os.getpid(), signal.SIGKILL),  # noqa: PLW1509  (it makes two system calls)
    )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(json.dumps(job.work) + "\n")
    return process


def _forward(rank: int, process: subprocess.Popen[str]) -> None:
    """Pass on a rank's lines with its number: log lines as a field, others before them, as torch does it."""
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(_marked(rank, line.rstrip("\n")) + "\n")
        sys.stdout.flush()


def _marked(rank: int, line: str) -> str:
    if logged := parse_line(line):
        return line if "rank" in logged.fields else f"{line} rank={rank}"
    return line if line.startswith("[rank") else f"[rank{rank}]: {line}"


def _supervise(ranks: list[tuple[int, subprocess.Popen[str]]], wanted: _Wanted, grace_seconds: float) -> int:
    """Wait until all ranks have ended; the exit code for the agent."""
    while True:
        codes = {rank: process.poll() for rank, process in ranks}
        failed = {rank: code for rank, code in codes.items() if code not in (None, 0, EXIT_INTERRUPTED)}
        if failed:
            _report(failed)
            _end(ranks, LAST_WORDS_SECONDS)
            first = next(iter(failed.values()))
            return first if first > 0 else 128 - first
        if all(code is not None for code in codes.values()):
            return max(code for code in codes.values() if code is not None)
        if not wanted:
            for _, process in ranks:
                process.terminate()
            _end(ranks, grace_seconds)
            codes = {rank: process.poll() for rank, process in ranks}
            return EXIT_INTERRUPTED if set(codes.values()) <= {0, EXIT_INTERRUPTED} else 128 + signal.SIGTERM
        time.sleep(_POLL_SECONDS)


def _report(failed: dict[int, int]) -> None:
    """Name the ranks that a signal killed: they could say nothing themselves."""
    host = socket.gethostname()
    for rank, code in failed.items():
        if code < 0:
            name = signal.Signals(-code).name
            lost = PassingError(f"rank {rank} on host {host} was killed by {name}")
            log_sentence(get_logger("training"), lost, rank=rank, host=host, ends=True)


def _end(ranks: list[tuple[int, subprocess.Popen[str]]], patience: float) -> None:
    """Wait for the ranks, then kill those that are left."""
    deadline = time.monotonic() + patience
    while any(process.poll() is None for _, process in ranks) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    for _, process in ranks:
        if process.poll() is None:
            process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
