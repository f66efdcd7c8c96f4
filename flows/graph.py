"""The order of the boxes, shared by the flows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prefect import Task, task
from prefect.futures import PrefectFuture, as_completed
from prefect.logging import get_run_logger
from prefect.states import State

from flows.artifacts import show_gate, show_published
from flows.events import emit_gate_refused, emit_published
from flows.run import Run
from flows.steps import REFUSED, failed_or_raise, retried, run_step, worth_another_try
from htcl.artifacts import ArtifactStore
from htcl.champion import Champion, read_champion
from htcl.errors import HTCLError, PassingError
from htcl.plan import plan
from htcl.processes import end_live_sessions
from htcl.publish import UNCHANGED, Judgement, Keys, Switch, judge, obstacle, publish_set

JUDGED = ("catalog", "shards", "pairs", "stage1", "stage2", "gate_set", "evaluation")
"""Steps that make a candidate and what the gate looks at."""
SERVED = ("embeddings", "index")
"""Steps that make what readers see of it."""
Futures = dict[str, PrefectFuture[Any]]
"""By the name of the step."""


def make(run: Run, names: Iterable[str], champion: str | None = None, fine_tune: bool = True) -> Keys:
    """Make the artifacts of some steps, unless they are there; each as soon as those that it reads are made.

    Args:
        run: the flow run.
        names: of the steps, each after those that it reads.
        champion: see `htcl.plan.plan`.
        fine_tune: see `htcl.plan.plan`.

    Returns:
        Their keys by step.

    Raises:
        HTCLError: with the sentence of the first step that failed.
    """
    return _keys(_start(run, names, champion, fine_tune))


def gate_and_publish(run: Run, keys: Keys, champion: str | None = None) -> str:
    """Judge a candidate; embed the catalog with it and switch readers to it if it may; report.

    Args:
        run: the flow run.
        keys: of `JUDGED`; that of the report is added, and those of `SERVED` where the candidate gets so far.
        champion: that the candidate was fine-tuned from, where it was.

    Returns:
        What came of it, in a sentence.
    """
    base = read_champion(run.config.workspace)
    outcome = _refusal(run, keys, base)
    started = _start(run, ["report"] if outcome else [*SERVED, "report"], champion)
    report = started.pop("report")  # to be read while the catalog is being embedded
    if not outcome:
        keys |= _keys(started)
        outcome = publish(run, keys, base, "passed the gate")
    now = read_champion(run.config.workspace)
    show_published(now.keys if now else {}, outcome)
    keys |= _keys({"report": report})
    return outcome


def _refusal(run: Run, keys: Keys, base: Champion | None) -> str:
    """Why a candidate may not be published, in a sentence; empty where it may."""
    model = keys["stage2"]
    if base and base.stage2 == model:
        return ""
    if why := obstacle(run.config.workspace, model, base):
        return f"kept champion {base.stage2 if base else ''}: {why}"
    against = _evaluate_champion(run, base) if base else None
    judgement: Judgement = _wait(retried(run.config, judge_candidate), run, keys, against)
    if judgement.promote:
        return ""
    return f"{_refused(run, base, model, judgement.reasons)} `htcl promote {model}` publishes it all the same."


def publish(run: Run, keys: Keys, base: Champion | None, why: str) -> str:
    """Check that a set is whole and sound, and switch readers to it.

    Args:
        run: the flow run.
        keys: of the set.
        base: champion that this was decided upon.
        why: what is written down as the reason.

    Returns:
        What came of it, in a sentence.
    """
    found: Switch = _wait(retried(run.config, switch), run, keys, base, f"{why} ({run.name})")
    if found.faults:
        return _refused(run, base, keys["stage2"], found.faults)
    if not found.switched:
        return f"{UNCHANGED}: readers see {keys['stage2']}"
    emit_published(run.config, keys)
    return f"published {keys['stage2']}"


@task(task_run_name="gate", retry_condition_fn=worth_another_try)
def judge_candidate(run: Run, keys: Keys, against: str | None) -> Judgement | State:
    """Hold the candidate against the champion; shown as an artifact of the run."""
    try:
        judgement = judge(run.config, keys, against, run.name)
    except Exception as error:
        return failed_or_raise(error)
    show_gate(judgement)
    return judgement


@task(task_run_name="publish", retry_condition_fn=worth_another_try)
def switch(run: Run, keys: Keys, base: Champion | None, why: str) -> Switch | State:
    """Switch readers, unless the set has a fault."""
    try:
        return publish_set(run.config, keys, base, why)
    except Exception as error:
        return failed_or_raise(error)


def _evaluate_champion(run: Run, champion: Champion) -> str:
    """Evaluate the champion on what the candidate is evaluated on, for the gate to compare equals.

    Returns:
        Key of the evaluation; where it reads log-mels of other settings, of the one that it was published with.
    """
    audio = plan(run.config, inputs=run.inputs)["shards"].recipe.section["audio"]
    trained = ArtifactStore(run.config.workspace).manifest("shards", champion.shards)["section"]["audio"]
    if audio != trained:
        return champion.evaluation
    return make(run, ("gate_set", "evaluation"), champion.stage2, fine_tune=False)["evaluation"]


def _refused(run: Run, base: Champion | None, model: str, reasons: list[str]) -> str:
    emit_gate_refused(run.config, model, reasons)
    kept = f"kept champion {base.stage2}" if base else "nothing is published"
    return f"{kept}: {' '.join(reasons)}"


def _start(run: Run, names: Iterable[str], champion: str | None, fine_tune: bool = True) -> Futures:
    steps = plan(run.config, champion, fine_tune, run.inputs)
    futures: Futures = {}
    for name in names:
        step = steps[name]
        if step.published:
            get_run_logger().info(f"{name}: skipped, nothing changed (key {step.key})")
        # Prefect remembers a key whose artifact may have been collected since.
        work = retried(run.config, run_step).with_options(refresh_cache=not step.published)
        reads = step.recipe.inputs if run.config.steps.side_by_side else futures
        before = [futures[other] for other in reads if other in futures]
        futures[name] = work.submit(run, step, champion, fine_tune, wait_for=before)
    return futures


def _keys(futures: Futures) -> Keys:
    return dict(zip(futures, wait_for(futures.values()), strict=True))


def _wait(work: Task[..., Any], *arguments: Any) -> Any:
    """Run a task in its thread; what it returns.

    Raises:
        HTCLError: with the sentence of its failed state.
    """
    return wait_for([work.submit(*arguments)])[0]


def wait_for(futures: Iterable[PrefectFuture[Any]]) -> list[Any]:
    """Wait until all of some tasks have ended, or one has failed; what they return.

    Raises:
        HTCLError: with the sentence of the first that failed.
    """
    futures = list(futures)
    try:
        lost = next((state for state in map(_final_state, as_completed(futures)) if _failed(state)), None)
    except BaseException:  # cancelled or interrupted: no signal reaches the threads
        end_live_sessions()  # and a task between two commands starts no other
        raise
    if lost:
        raise (HTCLError if lost.name == REFUSED else PassingError)(lost.message or "a step failed")
    return [future.state.result() for future in futures]


def _final_state(future: PrefectFuture[Any]) -> State[Any]:
    future.wait()  # a future that has ended takes over its state only now; before, it would ask the server
    return future.state


def _failed(state: State[Any]) -> bool:
    """Whether a task failed itself; one that waited for such a task stays pending."""
    return state.is_final() and not state.is_completed()
