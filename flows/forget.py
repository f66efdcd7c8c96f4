"""Take users who are to be forgotten out of the counts; who they are is on a list in the workspace, no parameter."""

from __future__ import annotations

from prefect import flow
from prefect.states import Failed, State

from flows.graph import run_as_script
from flows.steps import submit_job
from htcl.config_file import load_config
from htcl.errors import HTCLError
from htcl.plan import raw_inputs


@flow(name="htcl")
def forget(config: str, overrides: list[str] | None = None) -> State | None:
    """Count the days of forgotten users again, drop derived days whose log is gone, delete old versions.

    Args:
        config: path of the pipeline configuration (YAML).
        overrides: settings laid over it.
    """
    try:
        loaded = load_config(config, overrides)
        submit_job(loaded, raw_inputs(loaded), "forget_users.py", [])
    except HTCLError as error:
        return Failed(message=str(error))
    return None


if __name__ == "__main__":
    run_as_script(forget)
