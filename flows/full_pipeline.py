"""The whole way: logs, catalog and audio to a published, searchable set of song embeddings."""

from __future__ import annotations

from prefect import flow
from prefect.states import Completed, State

from flows.graph import JUDGED, gate_and_publish, make
from flows.run import working
from flows.script import run_as_script
from flows.settings import Settings
from flows.steps import failed
from htcl.errors import HTCLError


@flow(name="htcl")
def full_pipeline(config: str, settings: Settings = Settings()) -> State:  # noqa: B008  (it never changes)
    """Run every step whose inputs or settings changed.

    Args:
        config: Path of the pipeline configuration (YAML) on the worker.
        settings: Settings laid over it for this run.

    Returns:
        Completed, with the artifact keys by step and what came of the candidate as its message; or failed.
    """
    try:
        with working(config, settings, "full-pipeline") as run:
            keys = make(run, JUDGED)
            outcome = gate_and_publish(run, keys)
            return Completed(message=outcome, data=keys)
    except HTCLError as error:
        return failed(error)


if __name__ == "__main__":
    run_as_script(full_pipeline)
