"""The boxes as Prefect tasks: each makes one artifact in processes of its own, or says that it is there already."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextvars import copy_context
from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas import TaskRun
from prefect.logging import get_run_logger
from prefect.states import Failed, State

from flows.artifacts import ProgressArtifact, show_step
from flows.run import Run
from htcl import boxes
from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig, fingerprint
from htcl.config_file import save_config
from htcl.errors import HTCLError, PassingError, sentence_of
from htcl.flow_process import run_folder
from htcl.logs import PASSING, parse_line
from htcl.plan import Step
from htcl.processes import run_process, sessions_end

ROOT = Path(__file__).resolve().parent.parent
JOBS = {
    "pairs": ["mine_pairs.py"],
    "shards": ["build_shards.py"],
    "gate_set": ["embed_catalog.py", "--gate-set"],
    "embeddings": ["embed_catalog.py"],
}
"""Steps that are Spark jobs: the file below jobs/ and its arguments."""
LAST_LINES = 5
"""Of a process that ended without a sentence, that its error shows; the run's log has more."""
REFUSED = "Refused"
"""Name of the failed state of what a person has to mend; nothing tries it again."""


def worth_another_try(_task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task may end otherwise the next time: its failure can pass, and nobody cancelled the run."""
    fault_of_ours = isinstance(state.data, BaseException)
    return not fault_of_ours and state.name != REFUSED and not sessions_end()


def failed(error: HTCLError) -> State[Any]:
    """The state of a task, or flow, that an error ended: one sentence, and in its name whether a person is needed."""
    return Failed(message=str(error), name=None if isinstance(error, PassingError) else REFUSED)


def failed_or_raise(error: Exception) -> State[Any]:
    """The failed state of an error that its reader can mend; any other is a fault of ours, and raised."""
    if told := sentence_of(error):
        return failed(told)
    raise error


@task(
    task_run_name="{step.name}",
    cache_policy=CacheKeyFnPolicy(cache_key_fn=lambda _, parameters: f"htcl-{parameters['step'].key}"),
    persist_result=True,
    retry_condition_fn=worth_another_try,
)
def run_step(run: Run, step: Step, champion: str | None, fine_tune: bool) -> str | State:
    """Make the artifact of one step unless it is published.

    Args:
        run: the flow run.
        step: as it was planned.
        champion: see `htcl.plan.plan`.
        fine_tune: see `htcl.plan.plan`.

    Returns:
        Its key; a failed state with one sentence otherwise.
    """
    store = ArtifactStore(run.config.workspace)
    try:
        if store.published(step.name, step.key):
            return step.key
        get_run_logger().info(f"{step.name}: runs, because {step.reason} (key {step.key})")
        _make(run, step, champion, fine_tune)
        if not store.published(step.name, step.key):
            raise PassingError(f"{step.name}: ended without publishing {step.key}; the lines above say why")
        show_step(run.config, step)
        return step.key
    except Exception as error:
        return failed_or_raise(error)


def submit_job(run: Run, job: str, arguments: list[str]) -> None:
    """Run a Spark job by spark-submit in a process group of its own, its lines in the run's log.

    Raises:
        HTCLError: with the job's own sentence.
        PassingError: when it ended without one, or with one that may be gone at another try.
    """
    config = run.config
    path = save_config(config, run_folder(fingerprint(config)) / "config.yaml")
    command = [str(Path(sys.executable).parent / "spark-submit"), "--master", config.spark.master]
    command += ["--driver-memory", config.spark.driver_memory, "--conf", "spark.log.level=WARN"]
    for key, value in config.spark.conf.items():
        command += ["--conf", f"{key}={value}"]
    command += [str(ROOT / "jobs" / job), "--config", str(path), "--inputs", json.dumps(run.inputs), *arguments]
    _run(config, command, job, env=_spark_environment())


def log_line(step: str) -> Callable[[str], None]:
    """A function that puts a child's line into the run's log, and its progress into an artifact of the run.

    Args:
        step: that the child makes, for lines that do not say it.
    """
    logger, progress = get_run_logger(), ProgressArtifact()
    context = copy_context()  # lines may come from a thread that knows of no run

    def forward(line: str) -> None:
        found = parse_line(line)
        if found is None:
            logger.info(f"{step}: {line}")  # of Spark, DeepSpeed or another library
            return
        logger.log(logging.getLevelNamesMapping()[found.level.upper()], f"{found.step}: {found.text}")
        context.copy().run(progress.read, found)

    return forward


def retried(config: PipelineConfig, work: Task[..., Any]) -> Task[..., Any]:
    """A task with the retries and back-off of the configuration."""
    steps = config.steps
    return work.with_options(
        retries=steps.retries,
        retry_delay_seconds=[steps.retry_seconds * 2**n for n in range(steps.retries)] or 0,
    )


def _make(run: Run, step: Step, champion: str | None, fine_tune: bool) -> None:
    if step.name in JOBS:
        job, *arguments = JOBS[step.name]
        if champion and job == "embed_catalog.py":
            arguments += ["--champion", champion, *([] if fine_tune else ["--no-fine-tune"])]
        submit_job(run, job, arguments)
    elif step.name in boxes.BOXES:
        work = json.dumps(boxes.describe(run.config, step.recipe))
        _run(run.config, boxes.COMMAND, step.name, talk=lambda process: _send(process, work))
    else:
        from htcl.training.launch import run_stage

        run_stage(run.config, step, log_line(step.name))


def _run(config: PipelineConfig, command: list[str], what: str, **options: Any) -> None:
    code, tail = run_process(
        command, log_line(what), cwd=ROOT, timeout_seconds=config.steps.timeout_hours * 3600, **options
    )
    if code and sessions_end():
        raise PassingError(f"{what} was ended with the run")
    if code:
        errors = [found for line in tail if (found := parse_line(line)) and found.level == "error"]
        if not errors:
            last = " | ".join(tail[-LAST_LINES:])
            raise PassingError(f"{what} ended with exit code {code}; its last lines: {last}")
        raise (PassingError if PASSING in errors[-1].fields else HTCLError)(errors[-1].message)


def _send(process: subprocess.Popen[str], work: str) -> None:
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(work + "\n")


def _spark_environment() -> Mapping[str, str]:
    folder = Path(sys.executable).parent
    return {
        "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
