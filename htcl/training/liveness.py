"""Says that a rank lives and what it is doing, and shows its stacks when a step stalls."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from htcl.errors import PassingError
from htcl.logs import get_logger, log, log_sentence

ALIVE = "alive"
"""The message of a pulse; who starts the ranks reads it and does not pass it on."""
PULSE_SECONDS = 1.0
STEP_PHASES = ("data", "forward", "exchange", "backward", "update")
"""The phases of a step in their order; all ranks meet in `exchange`, `backward` and `update`."""
EXIT_STALLED = 76
"""Exit code of a rank that ended itself because a step took too long."""
MARGIN_SECONDS = 15.0
"""Who started the ranks knows better which of them holds up the others, and is given so much longer to say it."""
SAVE = "save"
"""The last phase: rank 0 publishes, the others end."""
PATIENCE = 6
"""Loading, a checkpoint, validation and saving may take so many times longer than a phase of a step."""


@dataclass(frozen=True)
class Place:
    """Where a rank is.

    Attributes:
        step: steps that are done.
        phase: of the next step, or another word: start, checkpoint, validate, save.
        part: the micro-batch that is encoded.
    """

    step: int
    phase: str
    part: int = 0

    @property
    def patience(self) -> int:
        """How many times `stall_seconds` it may last."""
        return 1 if self.phase in STEP_PHASES else PATIENCE

    @property
    def progress(self) -> tuple[int, int, int]:
        """Orders the places of ranks: the one that others wait for comes first."""
        return self.step, STEP_PHASES.index(self.phase) if self.phase in STEP_PHASES else -1, self.part

    def __str__(self) -> str:
        return f"after step {self.step} in {self.phase}" + (f" of micro-batch {self.part}" if self.part else "")


class Liveness:
    """A rank's place, and a thread that watches it.

    Halfway to `stall_seconds` in one phase (PATIENCE times that outside a step) the stacks of all threads go to
    standard error; soon after the whole time the rank ends itself: it would hold up the others for ever.
    """

    def __init__(self, rank: int, stall_seconds: float, pulses: bool) -> None:
        self._rank, self._host = rank, socket.gethostname()
        self._stall_seconds, self._pulses = stall_seconds, pulses
        self._place, self._since = Place(0, "start"), time.monotonic()
        self._shown: Place | None = None

    def at(self, step: int, phase: str, part: int = 0) -> None:
        """Note the rank's place."""
        self._place, self._since = Place(step, phase, part), time.monotonic()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the place as long as the block runs."""
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,), name="liveness", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(PULSE_SECONDS):
            place, seconds = self._place, time.monotonic() - self._since
            if self._pulses:
                who = {"rank": self._rank, "host": self._host, "pid": os.getpid()}
                log(get_logger("training"), ALIVE, **who, global_step=place.step, phase=place.phase, part=place.part)
            limit = self._stall_seconds * place.patience
            if seconds > limit / 2 and place != self._shown:
                self._shown = place
                self._show_stacks(place, seconds)
            if seconds > limit + MARGIN_SECONDS:
                stalled = PassingError(self._sentence(place, seconds))
                log_sentence(get_logger("training"), stalled, rank=self._rank, host=self._host, ends=True)
                sys.stderr.flush()
                os._exit(EXIT_STALLED)

    def _show_stacks(self, place: Place, seconds: float) -> None:
        log(get_logger("training"), f"{self._sentence(place, seconds)}; the stacks of its threads follow")
        faulthandler.dump_traceback(all_threads=True)

    def _sentence(self, place: Place, seconds: float) -> str:
        return f"rank {self._rank} on host {self._host} stalls {place}: {seconds:.0f} s"
