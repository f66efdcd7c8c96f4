"""A flow as a process of its own, as `htcl` starts it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from prefect import Flow

from htcl.flow_process import DONE_PREFIX, FAILED_PREFIX, Done


def run_as_script(function: Flow[..., Any]) -> None:
    """Run a flow with the arguments [NAME=VALUE ...], which are its parameters.

    The last line says what came of it: the outcome and the artifact keys as JSON, or, with exit code 1, one sentence.
    """
    parameters = dict(argument.split("=", 1) for argument in sys.argv[1:])
    state = function(**parameters, return_state=True)
    if not state.is_completed():
        print(f"{FAILED_PREFIX}{state.message}", flush=True)
        sys.exit(1)
    done = Done(state.message or "", state.result() or {})
    print(f"{DONE_PREFIX}{json.dumps(asdict(done))}", flush=True)
