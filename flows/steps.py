"""The boxes as Prefect tasks: each makes one artifact, or says that it is there already."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from prefect import task
from prefect.logging import get_run_logger
from prefect.states import Failed, State

from flows.artifacts import show_log_quality
from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig, fingerprint
from htcl.config_file import save_config
from htcl.errors import HTCLError
from htcl.logs import parse_line, quiet_libraries
from htcl.plan import Step, plan
from htcl.processes import run_process

logging.getLogger("htcl").setLevel(logging.INFO)
ROOT = Path(__file__).resolve().parent.parent
JOBS = {"pairs": "mine_pairs.py", "shards": "build_shards.py", "embeddings": "embed_catalog.py"}


@task(task_run_name="{name}")
def run_step(
    name: str, config: PipelineConfig, inputs: dict[str, str], champion: str | None = None, fine_tune: bool = True
) -> str | State:
    """Make the artifact of one step unless it is published.

    Args:
        name: the step.
        config: the configuration.
        inputs: what the raw inputs were when the run began.
        champion: see `htcl.plan.plan`.
        fine_tune: see `htcl.plan.plan`.

    Returns:
        Its key; a failed state with one sentence where a person has to mend something.
    """
    logger = get_run_logger()
    try:
        step = plan(config, champion, fine_tune, inputs)[name]
        if step.published:
            logger.info(f"{name}: skipped, nothing changed (key {step.key})")
            return step.key
        logger.info(f"{name}: runs, because {step.reason} (key {step.key})")
        _make(config, inputs, step, champion, fine_tune)
        if not ArtifactStore(config.workspace).published(name, step.key):
            raise HTCLError(f"{name}: ended without publishing {step.key}; the lines above say why")
        if name == "pairs":
            show_log_quality(config.workspace, step.key)
        return step.key
    except HTCLError as error:
        return Failed(message=str(error))


@task(task_run_name="publish")
def publish(config: PipelineConfig, keys: dict[str, str], against: str | None = None) -> bool | State:
    """Gate the candidate and switch readers to it if it may."""
    from htcl.publish import gate_and_publish

    try:
        return gate_and_publish(config, keys, against)
    except HTCLError as error:
        return Failed(message=str(error))


def submit_job(config: PipelineConfig, inputs: dict[str, str], job: str, arguments: list[str]) -> None:
    """Run a Spark job by spark-submit in a process group of its own, its lines in the run's log.

    Raises:
        HTCLError: with the job's own sentence.
    """
    path = save_config(config, _run_folder(config) / "config.yaml")
    command = [str(Path(sys.executable).parent / "spark-submit"), "--master", config.spark.master]
    command += ["--driver-memory", config.spark.driver_memory]
    for key, value in config.spark.conf.items():
        command += ["--conf", f"{key}={value}"]
    command += [str(ROOT / "jobs" / job), "--config", str(path), "--inputs", json.dumps(inputs), *arguments]
    code, tail = run_process(command, log_line(), env=_spark_environment(), cwd=ROOT)
    if code:
        said = [found.message for line in tail if (found := parse_line(line)) and found.level == "error"]
        raise HTCLError(said[-1] if said else f"{job} ended with exit code {code}:\n" + "\n".join(tail))


def log_line() -> Callable[[str], None]:
    """A function that puts a child's line into the run's log: ours as they are, the libraries' as debug."""
    logger = get_run_logger()

    def forward(line: str) -> None:
        if found := parse_line(line):
            logger.log(logging.getLevelNamesMapping()[found.level.upper()], found.text)
        else:
            logger.debug(line)

    return forward


def _make(config: PipelineConfig, inputs: dict[str, str], step: Step, champion: str | None, fine_tune: bool) -> None:
    if step.name in JOBS:
        arguments = ["--champion", champion] if champion and step.name == "embeddings" else []
        arguments += ["--no-fine-tune"] if arguments and not fine_tune else []
        submit_job(config, inputs, JOBS[step.name], arguments)
    elif step.name in ("stage1", "stage2"):
        from htcl.training.launch import run_stage

        run_stage(config, step, log_line())
    else:
        _in_process(config, step)


def _in_process(config: PipelineConfig, step: Step) -> None:
    """Steps that need no cluster; imported late, because most bring torch."""
    if step.name == "catalog":
        from htcl.ingest.catalog import build_catalog

        with ArtifactStore(config.workspace).create(step.recipe) as draft:
            draft.figures = build_catalog(config, draft.path)
        return
    quiet_libraries()
    if step.name == "index":
        from htcl.search.index import build_index

        build_index(config, step)
    elif step.name == "evaluation":
        from htcl.evaluation.run import evaluate

        evaluate(config, step)
    else:
        from htcl.report.build import build_report

        build_report(config, step)


def _run_folder(config: PipelineConfig) -> Path:
    return Path(tempfile.gettempdir()) / f"htcl-{os.getuid()}" / fingerprint(config)


def _spark_environment() -> dict[str, str]:
    folder = Path(sys.executable).parent
    return {
        "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
