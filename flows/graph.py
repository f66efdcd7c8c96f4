"""The order of the boxes, shared by the flows."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from prefect import Flow
from prefect.states import State

from flows.steps import publish, run_step
from htcl.artifacts import ArtifactStore
from htcl.champion import read_champion
from htcl.cli import DONE_PREFIX, FAILED_PREFIX
from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.plan import plan
from htcl.processes import allow_sessions, end_live_sessions


def make(
    config: PipelineConfig,
    inputs: Mapping[str, str],
    name: str,
    champion: str | None = None,
    fine_tune: bool = True,
) -> str:
    """Make the artifact of one step, unless it is there.

    Args:
        config: the configuration.
        inputs: what the raw inputs were when the run began (`htcl.plan.raw_inputs`).
        name: the step.
        champion: see `htcl.plan.plan`.
        fine_tune: see `htcl.plan.plan`.

    Returns:
        Its key.

    Raises:
        HTCLError: with the sentence of the step that failed.
    """
    allow_sessions()  # a cancelled run before this one in the same process has forbidden them
    future = run_step.submit(name, config, dict(inputs), champion, fine_tune)
    try:
        future.wait()
    except BaseException:  # cancelled or interrupted: the task runs in a thread, which no signal reaches
        end_live_sessions()  # and a task between two commands starts no other
        raise
    return str(_value(future.state))


def evaluate_champion(config: PipelineConfig, inputs: Mapping[str, str], candidate: str) -> str | None:
    """Evaluate the champion on what the candidate is evaluated on, for the gate to compare equals.

    Args:
        config: the configuration.
        inputs: as for `make`.
        candidate: key of the candidate's stage 2.

    Returns:
        Key of the evaluation; None where there is no other champion, or it reads log-mels of other settings.
    """
    champion = read_champion(config.workspace)
    if champion is None or champion.stage2 == candidate:
        return None
    audio = plan(config, inputs=inputs)["shards"].recipe.section["audio"]
    trained = ArtifactStore(config.workspace).manifest("shards", champion.shards)["section"]["audio"]
    if audio != trained:
        return None
    make(config, inputs, "embeddings", champion.stage2, fine_tune=False)
    return make(config, inputs, "evaluation", champion.stage2, fine_tune=False)


def publish_set(config: PipelineConfig, keys: dict[str, str], against: str | None = None) -> bool:
    """Gate and switch; whether the candidate is published.

    Raises:
        HTCLError: with the sentence of what failed.
    """
    names = ("catalog", "shards", "stage2", "embeddings", "index", "evaluation")
    return bool(_value(publish(config, {name: keys[name] for name in names}, against, return_state=True)))


def run_as_script(function: Flow[..., Any]) -> None:
    """Run a flow with the arguments CONFIG [KEY=VALUE ...].

    The last line says what came of it: the artifact keys as JSON, or, with exit code 1, one sentence.
    """
    state = function(sys.argv[1], sys.argv[2:], return_state=True)
    if not state.is_completed():
        print(f"{FAILED_PREFIX}{state.message}", flush=True)
        sys.exit(1)
    print(f"{DONE_PREFIX}{json.dumps(state.result())}", flush=True)


def _value(state: State[Any]) -> Any:
    if state.is_completed():
        return state.result()
    raise HTCLError(state.message or "a step failed")
