"""Count a range of days again, or bring the shards up to the catalog."""

from __future__ import annotations

from typing import Literal

from prefect import flow, task
from prefect.states import Failed, State

from flows.graph import make
from flows.steps import JOBS, submit_job
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.errors import HTCLError
from htcl.plan import raw_inputs


@task(task_run_name="count {start} to {end}")
def count_days(config: PipelineConfig, inputs: dict[str, str], start: str, end: str) -> State | None:
    """Count the log of some days again, in one transaction."""
    try:
        submit_job(config, inputs, JOBS["pairs"], ["--start", start, "--end", end])
    except HTCLError as error:
        return Failed(message=str(error))
    return None


@flow(name="htcl")
def backfill(config: str, start: str = "", end: str = "", what: Literal["pairs", "shards"] = "pairs") -> State | None:
    """Redo a part of the data: counts of days of the log, or shards. The next full run takes a snapshot of them.

    Args:
        config: path of the pipeline configuration (YAML).
        start: first day, YYYY-MM-DD; needed for pairs.
        end: last day, YYYY-MM-DD; needed for pairs.
        what: pairs (counts of these days) or shards (new and changed audio).
    """
    try:
        if what == "pairs" and not (start and end):
            raise HTCLError("backfill of pairs needs start and end, such as 2025-03-01 and 2025-03-07")
        loaded = load_config(config)
        inputs = raw_inputs(loaded)
        if what == "shards":
            for name in ("catalog", "shards"):
                make(loaded, inputs, name)
            return None
        state = count_days(loaded, inputs, start, end, return_state=True)
        return None if state.is_completed() else Failed(message=state.message)
    except HTCLError as error:
        return Failed(message=str(error))
