"""The boxes as Prefect tasks: each makes one artifact, or says that it is there already."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from prefect import task
from prefect.logging import get_run_logger
from prefect.states import Failed, State

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig, fingerprint
from htcl.config_file import save_config
from htcl.errors import HTCLError
from htcl.logs import quiet_libraries
from htcl.plan import Step, plan
from htcl.processes import run_process

logging.getLogger("htcl").setLevel(logging.INFO)
ROOT = Path(__file__).resolve().parent.parent
JOBS = {"pairs": "mine_pairs.py", "shards": "build_shards.py", "embeddings": "embed_catalog.py"}


@task(task_run_name="{name}")
def run_step(name: str, config: PipelineConfig, champion: str | None = None, fine_tune: bool = True) -> str | State:
    """Make the artifact of one step unless it is published.

    Returns:
        Its key; a failed state with one sentence where a person has to mend something.
    """
    logger = get_run_logger()
    try:
        step = plan(config, champion, fine_tune)[name]
        if step.published:
            logger.info(f"{name}: skipped, nothing changed (key {step.key})")
            return step.key
        logger.info(f"{name}: runs, because {step.reason} (key {step.key})")
        _make(config, step, champion, fine_tune)
        if not ArtifactStore(config.workspace).published(name, step.key):
            raise HTCLError(f"{name}: its inputs changed while it ran; start the run again")
        return step.key
    except HTCLError as error:
        return Failed(message=str(error))


@task(task_run_name="publish")
def publish(config: PipelineConfig, keys: dict[str, str]) -> bool | State:
    """Gate the candidate and switch readers to it if it may."""
    from htcl.publish import gate_and_publish

    try:
        return gate_and_publish(config, keys)
    except HTCLError as error:
        return Failed(message=str(error))


def submit_job(config: PipelineConfig, job: str, arguments: list[str]) -> None:
    """Run a Spark job by spark-submit in a process group of its own, its lines in the run's log.

    Raises:
        HTCLError: with the job's own sentence.
    """
    path = save_config(config, _run_folder(config) / "config.yaml")
    command = [str(Path(sys.executable).parent / "spark-submit"), "--master", config.spark.master]
    command += ["--driver-memory", config.spark.driver_memory]
    for key, value in config.spark.conf.items():
        command += ["--conf", f"{key}={value}"]
    command += [str(ROOT / "jobs" / job), "--config", str(path), *arguments]
    code, tail = run_process(command, log_line(), env=_spark_environment(), cwd=ROOT)
    if code:
        ours = [line for line in tail if "level=error" in line]
        sentence = ours[-1].partition("msg=")[2].strip('"') if ours else "\n".join(tail)
        raise HTCLError(sentence if ours else f"{job} ended with exit code {code}:\n{sentence}")


def log_line() -> Callable[[str], None]:
    """A function that puts a child's line into the run's log: ours as they are, the libraries' as debug."""
    logger = get_run_logger()

    def forward(line: str) -> None:
        if line.startswith("ts="):
            event = line.partition(" msg=")[2]
            # The level goes to the logger; quotes around the event only serve machines that read the line.
            text = event[1:].replace('"', "", 1) if event.startswith('"') else event
            logger.log(logging.ERROR if " level=error " in line else logging.INFO, text)
        else:
            logger.debug(line)

    return forward


def _make(config: PipelineConfig, step: Step, champion: str | None, fine_tune: bool) -> None:
    if step.name in JOBS:
        arguments = ["--champion", champion] if champion and step.name == "embeddings" else []
        arguments += ["--no-fine-tune"] if arguments and not fine_tune else []
        submit_job(config, JOBS[step.name], arguments)
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
