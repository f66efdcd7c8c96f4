"""Child processes that never outlive their parent's interest, and whose lines are seen as they come."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from htcl.errors import HTCLError, PassingError
from htcl.logs import without_passwords

GRACE_SECONDS = 8.0
"""Between SIGTERM and SIGKILL, for a process that starts no sessions of its own."""

OUTER_GRACE_SECONDS = 30.0
"""The same for a process that itself ends sessions when it gets SIGTERM: it needs longer than they do."""

_KILL_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1

_live: dict[int, float] = {}  # leader of a session -> its grace
_closed = threading.Event()
_lock = threading.Lock()
# Looked up here, because a forked child of a process with threads must not import or allocate much.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def run_process(
    command: Sequence[str],
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    grace_seconds: float = GRACE_SECONDS,
    talk: Callable[[subprocess.Popen[str]], None] | None = None,
    timeout_seconds: float | None = None,
    leader_first: bool = False,
) -> tuple[int, list[str]]:
    """Run a command in a session of its own and hand over its output line by line.

    Whatever ends the wait - an error, Ctrl-C, a cancelled flow - ends every process of its process group too.
    On Linux a parent that is killed without a chance to do so ends the command as well: the kernel sends the
    command (not what it started) SIGTERM when the thread that called this function is gone. The calling thread
    lives until the command has ended, so nothing else triggers it.

    Args:
        command: program and arguments.
        on_line: called with each line of standard output and error, URLs without their passwords.
        env: added to this process's environment.
        cwd: working directory.
        grace_seconds: between SIGTERM and SIGKILL; a command that ends processes of its own needs more than they.
        talk: runs in a thread of its own and may write to the command's standard input; without it there is none.
        timeout_seconds: after which the command is ended.
        leader_first: when it is to end, SIGTERM goes to the command alone, and to its group once it is gone: it has
            started something there that it needs until then.

    Returns:
        (exit code, the last 40 lines).

    Raises:
        HTCLError: when the program cannot be started, `end_live_sessions` has been called, or it took too long.
    """
    process = _start(command, env, cwd, grace_seconds, subprocess.PIPE if talk else subprocess.DEVNULL)
    if talk:
        threading.Thread(target=talk, args=(process,), daemon=True).start()
    tail: deque[str] = deque(maxlen=40)
    assert process.stdout is not None
    watcher = threading.Thread(target=_end_orphans, args=(process, grace_seconds), daemon=True)
    watcher.start()
    late = threading.Event()
    alarm = threading.Timer(timeout_seconds or threading.TIMEOUT_MAX, _end_late, (process, grace_seconds, late))
    alarm.daemon = True
    if timeout_seconds:
        alarm.start()
    try:
        for line in process.stdout:
            tail.append(without_passwords(line.rstrip("\n")))
            on_line(tail[-1])
        code = process.wait()
    finally:
        alarm.cancel()
        if leader_first:
            _end_leader(process, grace_seconds)
        _end_groups([process.pid], grace_seconds)
        process.wait()
        with _lock:
            _live.pop(process.pid, None)
    if late.is_set():
        raise HTCLError(
            f"{Path(command[0]).name} was ended after {timeout_seconds:.0f} s; its last lines say what it was doing: "
            "mend that, or raise steps.timeout_hours"
        )
    return code, list(tail)


def end_live_sessions() -> None:
    """End what `run_process` runs in any thread, all at once, and start nothing more until `allow_sessions`.

    For a cancelled run: a signal reaches only the main thread, and the others must not go on to their next command.
    """
    with _lock:
        _closed.set()
        live = dict(_live)
    _end_groups(live, max(live.values(), default=0.0))


def sessions_end() -> bool:
    """Whether `end_live_sessions` has been called."""
    return _closed.is_set()


def allow_sessions() -> None:
    """Let `run_process` start commands again: a new run begins in this process."""
    _closed.clear()


def _start(
    command: Sequence[str], env: Mapping[str, str] | None, cwd: Path | None, grace_seconds: float, stdin: int
) -> subprocess.Popen[str]:
    # Under the lock, so that end_live_sessions either sees the new process or keeps it from starting.
    with _lock:
        if _closed.is_set():
            raise PassingError(f"the run is being ended; {Path(command[0]).name} is not started")
        try:
            process = subprocess.Popen(
                list(command),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=stdin,
                text=True,
                errors="replace",
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
                preexec_fn=end_with_parent(os.getpid()),  # noqa: PLW1509  (it makes two system calls)
            )
        except OSError as error:
            raise HTCLError(f"cannot start {command[0]}: {error.strerror} ({error.filename})") from None
        _live[process.pid] = grace_seconds
    return process


def end_with_parent(parent: int, sign: signal.Signals = signal.SIGTERM) -> Callable[[], None] | None:
    """What a forked child runs so that a signal reaches it when its parent thread dies; None where Linux is not."""
    if _libc is None:
        return None
    prctl = _libc.prctl

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, sign, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(128 + sign)

    return arrange


def _end_orphans(process: subprocess.Popen[str], grace_seconds: float) -> None:
    # A launcher can die before its ranks do, and they hold the pipe that is read until its end.
    process.wait()  # this also reaps the leader, which would else keep its group alive
    _end_groups([process.pid], grace_seconds)


def _end_late(process: subprocess.Popen[str], grace_seconds: float, late: threading.Event) -> None:
    late.set()
    _end_groups([process.pid], grace_seconds)


def _end_leader(process: subprocess.Popen[str], grace_seconds: float) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace_seconds)


def _end_groups(leaders: Iterable[int], grace_seconds: float) -> None:
    """End every process of the process groups that `leaders` lead: SIGTERM to all, then SIGKILL to who is left.

    A process that left its group, by a session or group of its own, is not reached.
    """
    left = list(leaders)
    for sign, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, _KILL_SECONDS)):
        left = [pid for pid in left if _signal_group(pid, sign)]
        deadline = time.monotonic() + patience
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [pid for pid in left if _runs(pid)]


def _runs(leader: int) -> bool:
    """Whether a group has a process that is no zombie: where init reaps late or never, those stay for long."""
    if not _signal_group(leader, 0):
        return False
    if _libc is None:
        return True
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, _, group = status.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(group) == leader and state != "Z":
                return True
    return False


def _signal_group(pid: int, sign: int) -> bool:
    try:
        os.killpg(pid, sign)
    except ProcessLookupError:
        return False
    return True
