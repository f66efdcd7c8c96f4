"""The order of the boxes, shared by the flows."""

from __future__ import annotations

import sys
from typing import Any

from prefect import Flow
from prefect.states import State

from flows.steps import publish, run_step
from htcl.cli import FAILED_PREFIX
from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.processes import end_live_sessions


def make(
    config: PipelineConfig, names: list[str], champion: str | None = None, fine_tune: bool = True
) -> dict[str, str]:
    """Make some artifacts, those that do not depend on each other at once.

    Returns:
        Their keys by name.

    Raises:
        HTCLError: with the sentence of the step that failed.
    """
    futures = {name: run_step.submit(name, config, champion, fine_tune) for name in names}
    try:
        for future in futures.values():
            future.wait()
    except BaseException:  # cancelled or interrupted: the tasks run in threads, which no signal reaches
        end_live_sessions()
        raise
    return {name: _value(future.state) for name, future in futures.items()}


def publish_set(config: PipelineConfig, keys: dict[str, str]) -> bool:
    """Gate and switch; whether the candidate is published.

    Raises:
        HTCLError: with the sentence of what failed.
    """
    names = ("catalog", "shards", "stage2", "embeddings", "index", "evaluation")
    return bool(_value(publish(config, {name: keys[name] for name in names}, return_state=True)))


def run_as_script(function: Flow[..., Any]) -> None:
    """Run a flow with the arguments CONFIG [KEY=VALUE ...]; exit code 1 and one sentence when it fails."""
    state = function(sys.argv[1], sys.argv[2:], return_state=True)
    if not state.is_completed():
        print(f"{FAILED_PREFIX}{state.message}", flush=True)
        sys.exit(1)


def _value(state: State[Any]) -> Any:
    if state.is_completed():
        return state.result()
    raise HTCLError(state.message or "a step failed")
