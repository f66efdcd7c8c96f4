"""A flow as a process of its own: how the command starts one, and what the two say to each other."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from htcl.artifacts import own_folder
from htcl.config import fingerprint
from htcl.config_file import load_config, save_config
from htcl.errors import HTCLError

FAILED_PREFIX = "failed: "
DONE_PREFIX = "done: "
"""Start the last line of a flow that runs as a script: why it failed, or what came of it as JSON."""


@dataclass(frozen=True)
class Done:
    """What came of a flow.

    Attributes:
        outcome: in a sentence.
        keys: artifact keys by step.
    """

    outcome: str
    keys: dict[str, str]


def run_flow(module: str, path: Path, overrides: list[str], **parameters: str) -> Done:
    """Run a flow as a process of its own, its lines shown.

    Args:
        module: of the flow.
        path: of the configuration.
        overrides: settings laid over it.
        parameters: of the flow, beside its configuration.

    Raises:
        HTCLError: with the sentence of the flow that failed.
    """
    from htcl.processes import OUTER_GRACE_SECONDS, run_process
    from htcl.training.agent import STOP_SECONDS

    # A plain SIGTERM would end this process alone; as an exception it ends the flow's processes too.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda number, _: sys.exit(128 + number))
    config = load_config(path, overrides)
    if overrides:
        path = save_config(config, run_folder(fingerprint(config)) / "config.yaml")
    given = {"config": str(path.resolve()), **parameters}
    said: list[str] = []  # Prefect's own server may print a lot behind it, as it ends

    def show(line: str) -> None:
        print(line, flush=True)
        if line.startswith((FAILED_PREFIX, DONE_PREFIX)):
            said.append(line)

    code, _ = run_process(
        [sys.executable, "-m", module, *(f"{name}={value}" for name, value in given.items())],
        show,
        env=flow_environment(),
        cwd=_checkout(),
        grace_seconds=max(OUTER_GRACE_SECONDS, config.training.grace_seconds + 2 * STOP_SECONDS),
        leader_first=True,  # it reports its end to the Prefect server that it may have started
    )
    if code:
        reason = said[-1].removeprefix(FAILED_PREFIX) if said else ""
        raise HTCLError(reason or f"the run ended with exit code {code}; the lines above say why")
    return Done(**json.loads(said[-1].removeprefix(DONE_PREFIX)))


def run_folder(name: str) -> Path:
    """A folder of this host and user for what a run hands to its processes."""
    return own_folder("htcl") / name


def flow_environment() -> dict[str, str]:
    """Prefect settings of a run without a server, where the environment does not say otherwise."""
    wanted = {
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        # Its SQLite file is waited for on a busy machine: a query that is given up ends the run.
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "htcl",
    }
    return {name: value for name, value in wanted.items() if name not in os.environ}


def _checkout() -> Path:
    """The folder of flows/ and jobs/: HTCL_HOME, else the working directory or the checkout htcl runs from.

    Raises:
        HTCLError: when there is none; the wheel has no flows.
    """
    home = os.environ.get("HTCL_HOME")
    for place in [home] if home else [".", str(Path(__file__).resolve().parent.parent)]:
        if (Path(place) / "flows" / "full_pipeline.py").exists():
            return Path(place).resolve()
    if home:
        raise HTCLError(f"HTCL_HOME names {home}, which holds no flows/; set it to a checkout of htcl")
    raise HTCLError("flows/ and jobs/ are not here; run in a checkout of htcl, or set HTCL_HOME to one")
