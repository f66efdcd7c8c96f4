"""What the steps of one flow run share, and that no other run works on the workspace meanwhile."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from prefect.runtime import flow_run

from flows.settings import Settings
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.errors import sentence_of
from htcl.lease import workspace_lease
from htcl.plan import raw_inputs
from htcl.processes import allow_sessions, end_live_sessions

logging.getLogger("htcl").setLevel(logging.INFO)


@dataclass(frozen=True)
class Run:
    """A flow run at work.

    Attributes:
        config: the resolved configuration.
        inputs: what the raw inputs were when it began (`htcl.plan.raw_inputs`).
        name: of the flow run.
    """

    config: PipelineConfig
    inputs: dict[str, str]
    name: str


@contextlib.contextmanager
def working(config: str, settings: Settings, what: str) -> Iterator[Run]:
    """Load the configuration, wait until no other run works on the workspace, and look at the raw inputs.

    Args:
        config: path of the configuration.
        settings: laid over it.
        what: the run does, for others that wait.

    Raises:
        HTCLError: when the configuration is wrong, or an input is not there; also when the disk is full meanwhile.
    """
    loaded = load_config(config, settings=settings.values)
    allow_sessions()  # a cancelled run before this one in the same process has forbidden them
    here = not loaded.training.hostfile and loaded.spark.master.startswith("local")
    name = str(flow_run.get_name() or what)
    try:
        with workspace_lease(loaded.workspace, f"{what} {name}", here, end_live_sessions):
            try:
                yield Run(loaded, raw_inputs(loaded), name)
            except BaseException:  # cancelled, perhaps: nothing may go on once others can have the lease
                end_live_sessions()
                raise
    except OSError as error:
        if told := sentence_of(error):
            raise told from error
        raise
