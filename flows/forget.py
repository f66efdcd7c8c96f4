"""Take users who are to be forgotten out of the counts; who they are is on a list in the workspace, no parameter."""

from __future__ import annotations

from prefect import flow
from prefect.states import Completed, State

from flows.run import working
from flows.script import run_as_script
from flows.settings import Settings
from flows.steps import failed, submit_job
from htcl.errors import HTCLError


@flow(name="htcl")
def forget(config: str, settings: Settings = Settings()) -> State:  # noqa: B008  (it never changes)
    """Count the days of forgotten users again, drop derived days whose log is gone, delete old versions.

    Args:
        config: Path of the pipeline configuration (YAML).
        settings: Settings laid over it for this run.
    """
    try:
        with working(config, settings, "forget") as run:
            submit_job(run, "forget_users.py", [])
            return Completed(message="users forgotten")
    except HTCLError as error:
        return failed(error)


if __name__ == "__main__":
    run_as_script(forget)
