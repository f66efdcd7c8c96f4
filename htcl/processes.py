"""Child processes that never outlive their parent's interest, and whose lines are seen as they come."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from htcl.errors import HTCLError

GRACE_SECONDS = 8.0
"""Between SIGTERM and SIGKILL."""

_live: set[int] = set()
_lock = threading.Lock()


def run_process(
    command: Sequence[str],
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> tuple[int, list[str]]:
    """Run a command in a session of its own and hand over its output line by line.

    Whatever ends the wait - an error, Ctrl-C, a cancelled flow - ends every process of that session too.

    Args:
        command: program and arguments.
        on_line: called with each line of standard output and error.
        env: added to this process's environment.
        cwd: working directory.

    Returns:
        (exit code, the last 40 lines).

    Raises:
        HTCLError: when the program cannot be started.
    """
    try:
        process = subprocess.Popen(
            list(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise HTCLError(f"cannot start {command[0]}: {error.strerror} ({error.filename})") from None
    tail: deque[str] = deque(maxlen=40)
    assert process.stdout is not None
    with _lock:
        _live.add(process.pid)
    watcher = threading.Thread(target=_end_orphans, args=(process,), daemon=True)
    watcher.start()
    try:
        for line in process.stdout:
            tail.append(line.rstrip("\n"))
            on_line(tail[-1])
        code = process.wait()
    finally:
        end_session(process.pid)
        process.wait()
        with _lock:
            _live.discard(process.pid)
    return code, list(tail)


def _end_orphans(process: subprocess.Popen[str]) -> None:
    # A launcher can die before its ranks do, and they hold the pipe that is read until its end.
    process.wait()  # this also reaps the leader, which would else keep its group alive
    end_session(process.pid)


def end_live_sessions() -> None:
    """End what `run_process` runs in any thread: a signal reaches only the main one."""
    with _lock:
        pids = list(_live)
    for pid in pids:
        end_session(pid)


def end_session(pid: int) -> None:
    """End every process of the session that `pid` leads: SIGTERM, then SIGKILL after a grace period."""
    for sign, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 2.0)):
        if not _signal_group(pid, sign):
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not _signal_group(pid, 0):
                return
            time.sleep(0.05)


def _signal_group(pid: int, sign: int) -> bool:
    try:
        os.killpg(pid, sign)
    except ProcessLookupError:
        return False
    return True
