"""What came of a fault: the proof that nothing was lost or doubled, and the table of all of them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import psutil

from tests.chaos.faults import FAULTS
from tests.chaos.flow import marked
from tests.chaos.room import Injection, Room
from tests.chaos.truth import read_truth

RESULTS = ("survived", "clean failure", "came too late")
SHOWN_LETTERS = 150


@dataclass(frozen=True)
class Outcome:
    """One line of the table.

    Attributes:
        fault: its name.
        injection: what happened; None where the pipeline did not cope.
        differences: from the undisturbed run, or why there is nothing to compare.
    """

    fault: str
    injection: Injection | None
    differences: list[str]

    @property
    def sound(self) -> bool:
        """Whether the final artifacts are those of the undisturbed run."""
        return not self.differences

    @property
    def result(self) -> str:
        """In two words."""
        if self.injection is None:
            return "NOT CLEAN"
        if self.injection.missed:
            return "came too late"
        return "survived" if self.injection.survived else "clean failure"

    @property
    def line(self) -> str:
        """As a sentence."""
        found = self.injection
        about = f"{found.hit}; ended after {found.seconds:.1f} s" if found else ""
        said = f"; said: {found.said[:SHOWN_LETTERS]}" if found and found.said else ""
        return f"{self.fault}: {about}: {self.result}, {'identical' if self.sound else self.differences}{said}"


def inject(name: str, room: Room) -> Outcome:
    """Inject a fault, bring the workspace to its end, and compare what it holds with the undisturbed run."""
    try:
        injection = FAULTS[name](room)
        found = read_truth(str(injection.config.parent / "workspace"))
    except Exception as error:  # of one fault; the others are still to come
        return Outcome(name, None, [f"{type(error).__name__}: {error}"])
    finally:
        for flow in room.flows:
            for _, process in marked(flow.mark):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    differences = [
        f"{what}: {found[what]} instead of {was}"
        for what, was in room.world.truth.items()
        if found[what] != was and what not in injection.changed
    ]
    shutil.rmtree(room.folder, ignore_errors=True)
    return Outcome(name, injection, differences)


def table(outcomes: Iterable[Outcome]) -> str:
    """Markdown: one row a fault."""
    rows = [
        "| fault | injected | survived | clean failure | came too late | end after, s (median, longest) | identical |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    ordered = sorted(outcomes, key=lambda outcome: list(FAULTS).index(outcome.fault))
    for name, group in groupby(ordered, key=lambda outcome: outcome.fault):
        found = list(group)
        seconds = sorted(outcome.injection.seconds for outcome in found if outcome.injection)
        took = f"{seconds[len(seconds) // 2]:.0f}, {seconds[-1]:.0f}" if seconds else "—"
        counts = [sum(outcome.result == result for outcome in found) for result in RESULTS]
        sound = sum(outcome.sound for outcome in found)
        rows.append(f"| {name} | {len(found)} | {' | '.join(map(str, counts))} | {took} | {sound} |")
    return "\n".join(rows)
