"""Where one fault is injected: a fresh workspace, flow runs on it, and moments that a seed chooses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from tests.chaos.flow import LIMIT_SECONDS, Flow, Span, start_flow
from tests.chaos.world import World
from tests.integration.serving import Serving


@dataclass(frozen=True)
class Injection:
    """One fault and what came of it.

    Attributes:
        hit: what was hit, and when.
        config: of the workspace that it happened to, whose run has been brought to its end.
        survived: whether the run that was disturbed came to its end; else another one did.
        missed: whether the run had ended before the fault could be injected.
        changed: what the fault changes by its nature, of what is compared.
        said: the sentence that it failed with.
        seconds: from the fault to the end of the run that was disturbed.
        seconds_again: that the run after it took; 0 where there was none.
    """

    hit: str
    config: Path
    survived: bool
    said: str
    seconds: float
    seconds_again: float = 0.0
    missed: bool = False
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Room:
    """What a fault gets to work with.

    Attributes:
        world: to take copies of.
        folder: of its own.
        environment: of flow runs.
        served: Prefect's server.
        random: chooses.
        flows: that were started in it.
    """

    world: World
    folder: Path
    environment: dict[str, str]
    served: Serving
    random: random.Random
    flows: list[Flow] = field(default_factory=list)

    def choose(self, steps: Sequence[str], role: str = "") -> str:
        """One of some steps at which the world allows a fault and has a role; the last where there is none."""
        fitting = [step for step in steps if self.world.allows(step) and self.world.has(role, step)]
        return self.random.choice(fitting or steps[-1:])

    def copy(self, since: str, **settings: object) -> Path:
        """The configuration of a workspace that lacks `since` and what comes after it."""
        path = self.world.copy(self.folder / "own", since)
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **settings}))
        return path

    def start(self, config: Path, prefix: tuple[str, ...] = (), **more: str) -> Flow:
        """Start the pipeline.

        Args:
            config: of the workspace.
            prefix: stands before its command.
            more: is added to its environment; what is empty there is taken away.
        """
        environment = {name: value for name, value in {**self.environment, **more}.items() if value}
        self.flows.append(start_flow(config, environment, prefix))
        return self.flows[-1]

    def moment(self, flow: Flow, role: str, step: str) -> list[psutil.Process]:
        """Wait until processes of a role have been at a step for a random part of their usual time; those there are.

        Empty where the run ended before.
        """
        usual = self.world.spans.get((role, step), Span(0.0, 1.0))
        part = self.random.random()
        if not await_flow(flow, lambda: step in flow.working and flow.processes(role)):
            return []
        time.sleep(part * (usual.last - usual.first))
        return flow.processes(role)

    def anywhen(self, flow: Flow, steps: Sequence[str]) -> str:
        """Wait until a random moment of a random one of some steps; says which."""
        step = self.random.choice(steps)
        spans = [span for (_, at), span in self.world.spans.items() if at == step] or [Span(0.0, 1.0)]
        usual = max(span.last for span in spans) - min(span.first for span in spans)
        part = self.random.random()
        await_flow(flow, lambda: step in flow.steps)
        time.sleep(part * usual)
        return f"{step} after {part * usual:.1f} s"

    def finish(
        self,
        flow: Flow,
        config: Path,
        hit: str,
        since: float,
        mend: Callable[[], object] = str,
        start: Callable[[Path], Flow] | None = None,
        missed: bool = False,
    ) -> Injection:
        """Wait for a run that was disturbed; if it failed, mend what a person has to mend, and run again.

        Args:
            flow: the run.
            config: its configuration.
            hit: what happened to it.
            since: `time.monotonic()` when it happened.
            mend: what a person does after reading why it failed.
            start: starts the next run.
            missed: see `Injection`.

        Raises:
            AssertionError: when it failed without saying why, or the next run fails.
        """
        flow.wait()
        seconds = time.monotonic() - since
        if flow.done:
            return Injection(hit, config, True, "", seconds, missed=missed)
        killed = flow.process.returncode < 0
        assert killed or flow.sentence, f"{hit}: it failed and did not say why\n{''.join(flow.lines[-60:])}"
        mend()
        return Injection(hit, config, False, flow.sentence or "killed", seconds, self.again(config, start))

    def again(self, config: Path, start: Callable[[Path], Flow] | None = None) -> float:
        """Run the pipeline undisturbed; seconds that it took.

        Raises:
            AssertionError: when it fails.
        """
        flow = (start or self.start)(config)
        flow.wait()
        assert flow.done, f"the run after the fault failed\n{''.join(flow.lines[-60:])}"
        return time.monotonic() - flow.started


def await_flow(flow: Flow, there: Callable[[], object]) -> bool:
    """Until something is there (True) or the run has ended (False)."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while flow.process.poll() is None:
        if there():
            return True
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return False
