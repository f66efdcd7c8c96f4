"""One run at a time works on a workspace: a lease that its holder keeps alive and that passes on when it is dead.

A lease is a numbered file that is created where none of that number is: of several runs one gets it. The holder writes
to it every few seconds. Who waits watches whether it changes, by its own clock, so that clocks need not agree; a lease
that stands still belongs to the next number. A holder whose process is gone from this very host is not waited for
longer than what it had started lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from htcl import storage
from htcl.errors import HTCLError
from htcl.logs import get_logger, log, log_error, log_warning
from htcl.numbered import numbered_files, numbered_uri

BEAT_SECONDS = 5.0
"""Between two signs of life."""
STALE_SECONDS = 60.0
"""A lease that stands still for so long is dead; longer than ranks and Spark outlive the one who started them."""
RUN_VARIABLE = "HTCL_RUN"
"""Environment variable with the holder's token; whatever a run starts inherits it."""
_LOGGER = get_logger("lease")


@dataclass(frozen=True)
class Lease:
    """Who works on a workspace.

    Attributes:
        token: of the run.
        what: it does.
        host: it runs on, with the id of the boot and of the process namespace, in which `pid` means something.
        pid: of its process.
        since: ISO 8601.
        here: whether all that it starts runs on its host, too.
        beats: signs of life so far; -1: released.
    """

    token: str
    what: str
    host: str
    pid: int
    since: str
    here: bool
    beats: int = 0

    @property
    def released(self) -> bool:
        """Whether its holder has let go of it."""
        return self.beats < 0


@contextlib.contextmanager
def workspace_lease(workspace: str, what: str, here: bool, on_loss: Callable[[], None]) -> Iterator[None]:
    """Work on a workspace alone: wait until nobody else does, and keep others waiting as long as the block runs.

    Args:
        workspace: folder or URI.
        what: the run does, for those who wait.
        here: whether all that it starts runs on this host.
        on_loss: called from another thread if the lease is lost: this process was held up, or cut off from the
            workspace, for so long that another one took over. It has to end the work.
    """
    since = datetime.now(UTC).isoformat(timespec="seconds")
    own = Lease(uuid.uuid4().hex, what, _this_host(), os.getpid(), since, here)
    number = _take(workspace, own)
    ended, kept = threading.Event(), _Kept(on_loss)
    keeper = threading.Thread(target=_keep, args=(workspace, number, own, ended, kept), name="lease", daemon=True)
    watcher = threading.Thread(target=_watch, args=(ended, kept), name="lease watcher", daemon=True)
    keeper.start()
    watcher.start()
    os.environ[RUN_VARIABLE] = own.token
    try:
        yield
    finally:
        os.environ.pop(RUN_VARIABLE, None)
        ended.set()
        keeper.join(STALE_SECONDS)  # storage that does not answer may hold it up
        watcher.join()
        if not keeper.is_alive():
            with contextlib.suppress(HTCLError, OSError):  # out of reach: it stands still from now on
                storage.write_bytes(_uri(workspace, number), _encode(replace(own, beats=-1)))


def lease_holder(workspace: str) -> Lease | None:
    """Who holds the lease, alive or not; None where it is free."""
    _, holder = _newest(workspace)
    return None if holder.released else holder


def await_end_of(workspace: str, what: str) -> None:
    """Wait as long as somebody who does `what`, and is alive, holds the lease."""
    while True:
        number, holder = _newest(workspace)
        if holder.released or holder.what != what or _is_dead(workspace, number, holder):
            return


def _take(workspace: str, own: Lease) -> int:
    """Wait for the lease; its number."""
    told = False
    while True:
        number, holder = _newest(workspace)
        if not holder.released:
            if not told:
                log(_LOGGER, "another run works on this workspace; waits for it", **_about(holder))
                told = True
            if not _is_dead(workspace, number, holder):
                continue
            log_warning(_LOGGER, "the run that worked on this workspace is dead; goes on", **_about(holder))
        # It may be ours that is there: where storage's answer was lost, it was sent again.
        if storage.create_bytes(_uri(workspace, number + 1), _encode(own)) or _newest(workspace) == (number + 1, own):
            for old in _numbers(workspace):
                if old <= number:
                    storage.remove_file(_uri(workspace, old))
            return number + 1


def _is_dead(workspace: str, number: int, holder: Lease) -> bool:
    """Watch a lease until it changes (False) or is found dead (True)."""
    deadline = time.monotonic() + STALE_SECONDS
    while time.monotonic() < deadline:
        if _left_here(holder):
            return True
        time.sleep(min(1.0, BEAT_SECONDS / 5))
        if _newest(workspace) != (number, holder):
            return False
    return True


def _left_here(holder: Lease) -> bool:
    """Whether the holder ran on this host and nothing of it is left."""
    if not holder.here or holder.host != _this_host() or Path(f"/proc/{holder.pid}").exists():
        return False
    mark = f"{RUN_VARIABLE}={holder.token}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
            if mark in environment.read_bytes().split(b"\0"):
                return False
    return True


class _Kept:
    """When the lease was last seen to be ours; it is lost once at most."""

    def __init__(self, on_loss: Callable[[], None]) -> None:
        self.last, self.trouble = time.monotonic(), "it does not answer"
        self._on_loss, self._lock, self._lost = on_loss, threading.Lock(), False

    def lose(self, why: str) -> None:
        """Say why, and end the work."""
        with self._lock:
            lost, self._lost = self._lost, True
        if not lost:
            log_error(_LOGGER, why)
            self._on_loss()


def _keep(workspace: str, number: int, own: Lease, ended: threading.Event, kept: _Kept) -> None:
    """Give signs of life, and see whether somebody has taken over."""
    beats = 0
    while not ended.wait(BEAT_SECONDS):
        beats, began = beats + 1, time.monotonic()
        try:
            newest = _numbers(workspace)[-1]
            if newest != number:
                kept.lose("another run has taken over this workspace; this one ends")
                return
            storage.write_bytes(_uri(workspace, number), _encode(replace(own, beats=beats)))
            kept.last = began  # others count from when it was written, not from when its answer came
        except (HTCLError, OSError, IndexError) as error:
            kept.trouble = str(error)


def _watch(ended: threading.Event, kept: _Kept) -> None:
    """See that signs of life are given: a call of storage may hang for longer than others wait."""
    while not ended.wait(BEAT_SECONDS / 2):
        if time.monotonic() - kept.last > STALE_SECONDS - 2 * BEAT_SECONDS:
            kept.lose(f"the workspace is out of reach, so another run may have taken over: {kept.trouble}")
            return


_FREE = Lease("", "", "", 0, "", here=False, beats=-1)
_UNREADABLE = Lease("", "an unreadable lease", "?", 0, "?", here=False)


def _newest(workspace: str) -> tuple[int, Lease]:
    """Number and content of the newest lease; (0, a released one) before the first."""
    numbers = _numbers(workspace)
    if not numbers:
        return 0, _FREE
    try:
        return numbers[-1], Lease(**json.loads(storage.read_bytes(_uri(workspace, numbers[-1]))))
    except FileNotFoundError:  # a newer one has come meanwhile
        return _newest(workspace)
    except (ValueError, TypeError):
        return numbers[-1], _UNREADABLE


def _numbers(workspace: str) -> list[int]:
    return numbered_files(storage.join(workspace, "lease"))


def _uri(workspace: str, number: int) -> str:
    return numbered_uri(storage.join(workspace, "lease"), number)


def _encode(lease: Lease) -> bytes:
    return json.dumps(asdict(lease)).encode()


def _about(holder: Lease) -> dict[str, object]:
    return {"what": holder.what, "host": holder.host.split()[0], "pid": holder.pid, "since": holder.since}


def _this_host() -> str:
    """What tells apart hosts, boots and containers, in which process ids mean different things."""
    marks = [socket.gethostname()]
    with contextlib.suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        marks.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(marks)
