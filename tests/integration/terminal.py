"""A command in a terminal of its own, as a person runs it."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import threading
import time
from collections.abc import Iterator

from .harness import ROOT

CTRL_C = "\x03"
DEADLINE_SECONDS = 300


class Terminal:
    """A command whose standard streams are a terminal that it controls, and what it printed."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        # `setsid --ctty` makes the terminal the one whose Ctrl-C reaches the command.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command], cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self.printed = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 4096):
                self.printed += data.decode(errors="replace")
        except OSError:  # nobody has it open any more
            return

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def await_words(self, words: str) -> None:
        """Wait until it has printed some words."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while words not in self.printed:
            assert self.process.poll() is None and time.monotonic() < deadline, self.printed[-4000:]
            time.sleep(0.2)

    def await_end(self) -> None:
        """Wait until the command has ended."""
        self.process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        """Close the terminal, which ends what still runs in it."""
        os.close(self._ours)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def terminal(command: list[str], env: dict[str, str]) -> Iterator[Terminal]:
    """Run a command in a terminal, which is closed at the end of the block."""
    found = Terminal(command, env)
    try:
        yield found
    finally:
        found.close()
