"""What the ranks say of themselves, and which of them holds up the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from htcl.training.agent import SILENCE_SECONDS
from htcl.training.liveness import SAVE, Place


@dataclass
class _Rank:
    host: str
    place: Place
    since: float
    heard: float


class Pulses:
    """The places of all ranks, as they were last heard of.

    Args:
        stall_seconds: a rank that is not heard of in another phase for longer, or PATIENCE times that outside a step,
            counts as stalled.
        hosts: host of each rank, by which those are named that are never heard of.
    """

    def __init__(self, stall_seconds: float, hosts: Sequence[str]) -> None:
        self._stall_seconds = stall_seconds
        now = time.monotonic()
        self._ranks = {rank: _Rank(host, Place(0, "start"), now, now) for rank, host in enumerate(hosts)}
        self._lock = threading.Lock()

    def note(self, fields: Mapping[str, str]) -> None:
        """Take in a pulse: its rank, host, global_step, phase and part."""
        rank, place = int(fields["rank"]), Place(int(fields["global_step"]), fields["phase"], int(fields["part"]))
        now = time.monotonic()
        with self._lock:
            known = self._ranks[rank]
            since = known.since if known.place == place else now
            self._ranks[rank] = _Rank(fields["host"], place, since, now)

    def stalled(self) -> str | None:
        """A sentence that names the rank that the others wait for, once one of them has waited too long."""
        now = time.monotonic()
        with self._lock:
            # Once the model is being saved, ranks that have nothing to save are rightly silent.
            ranks = {r: each for r, each in self._ranks.items() if r == 0 or each.place.phase != SAVE}
            if not any(self._is_stuck(each, now) for each in ranks.values()):
                return None
            # A silent rank explains the waiting of the others, else the one that is furthest behind does.
            silence = min(SILENCE_SECONDS, self._stall_seconds)
            silent = {r: each for r, each in ranks.items() if now - each.heard > silence}
            rank, found = min((silent or ranks).items(), key=lambda item: (item[1].place.progress, item[0]))
        seconds = now - (found.heard if rank in silent else found.since)
        what = "is silent" if rank in silent else "does not get on"
        return (
            f"rank {rank} on host {found.host} {what} for {seconds:.0f} s, {found.place}; "
            f"training.stall_seconds = {self._stall_seconds:g} bounds that"
        )

    def _is_stuck(self, rank: _Rank, now: float) -> bool:
        # Silence counts by the same measure: libraries and models that load may keep a rank from pulsing.
        return now - rank.since > self._stall_seconds * rank.place.patience
