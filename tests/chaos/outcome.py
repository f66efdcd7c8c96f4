"""What came of a fault: the proof that nothing was lost or doubled, and the table of all of them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from statistics import median

import psutil

from tests.chaos.faults import FAULTS
from tests.chaos.flow import marked
from tests.chaos.room import Injection, Room
from tests.chaos.truth import EMBEDDED, check_close, read_truth
from tests.chaos.world import World

RESULTS = ("survived", "clean failure", "came too late")
PROOFS = ("identical", "identical but for rounding")
SHOWN_LETTERS = 150


@dataclass(frozen=True)
class Outcome:
    """One line of the table.

    Attributes:
        fault: its name.
        injection: what happened; None where the pipeline did not cope.
        differences: from the undisturbed run, or why there is nothing to compare.
        rounded: whether songs lie in other shards, so that their embeddings are those of the undisturbed run but for
            rounding.
    """

    fault: str
    injection: Injection | None
    differences: list[str]
    rounded: bool = False

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
    def proof(self) -> str:
        """How the final artifacts compare with those of the undisturbed run."""
        if not self.sound:
            return str(self.differences)
        return PROOFS[self.rounded]

    @property
    def line(self) -> str:
        """As a sentence."""
        found = self.injection
        about = f"{found.hit}; ended after {found.seconds:.1f} s" if found else ""
        said = f"; said: {found.said[:SHOWN_LETTERS]}" if found and found.said else ""
        return f"{self.fault}: {about}: {self.result}, {self.proof}{said}"


def inject(name: str, room: Room) -> Outcome:
    """Inject a fault, bring the workspace to its end, and compare what it holds with the undisturbed run."""
    try:
        injection = FAULTS[name](room)
        rounded, differences = _compare(room.world, injection)
    except Exception as error:  # of one fault; the others are still to come
        return Outcome(name, None, [f"{type(error).__name__}: {error}"])
    finally:
        for flow in room.flows:
            for _, process in marked(flow.mark):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    shutil.rmtree(room.folder, ignore_errors=True)
    return Outcome(name, injection, differences, rounded)


def _compare(world: World, injection: Injection) -> tuple[bool, list[str]]:
    """Whether songs lie in other shards than in the undisturbed run, and what else is not as there.

    Raises:
        AssertionError: where their embeddings differ by more than rounding.
    """
    undisturbed, workspace = str(world.config.parent / "workspace"), str(injection.config.parent / "workspace")
    found, left = read_truth(workspace), set(injection.changed)
    rounded = found["layout"] != world.truth["layout"]
    if rounded:
        left |= {"layout", *EMBEDDED}
        check_close(undisturbed, workspace)
    return rounded, [
        f"{what}: {found[what]} instead of {was}"
        for what, was in world.truth.items()
        if found[what] != was and what not in left
    ]


def table(outcomes: Iterable[Outcome]) -> str:
    """Markdown: one row a fault."""
    rows = [
        f"| fault | injected | {' | '.join(RESULTS)} | end after, s (median, longest) | {' | '.join(PROOFS)} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    ordered = sorted(outcomes, key=lambda outcome: list(FAULTS).index(outcome.fault))
    for name, group in groupby(ordered, key=lambda outcome: outcome.fault):
        found = list(group)
        seconds = [outcome.injection.seconds for outcome in found if outcome.injection]
        took = f"{median(seconds):.0f}, {max(seconds):.0f}" if seconds else "—"
        counts = [sum(outcome.result == result for outcome in found) for result in RESULTS]
        proofs = [sum(outcome.proof == proof for outcome in found) for proof in PROOFS]
        rows.append(
            f"| {name} | {len(found)} | {' | '.join(map(str, counts))} | {took} | {' | '.join(map(str, proofs))} |"
        )
    return "\n".join(rows)
