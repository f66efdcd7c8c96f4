"""A cancelled run starts nothing more; a later run in the same process does."""

import pytest
from prefect.states import Completed

from flows import graph
from htcl.errors import HTCLError
from htcl.processes import allow_sessions, run_process


class Future:
    state = Completed(data="key")

    def __init__(self, wait):
        self.wait = wait


def started():
    return run_process(["true"], print)[0] == 0


def test_a_cancelled_run_starts_no_more_processes_and_the_next_run_does(monkeypatch):
    def cancelled():
        raise KeyboardInterrupt

    class Step:
        submit = staticmethod(lambda *arguments: Future(cancelled))

    def run():
        return graph.wait_for(Step.submit())

    try:
        with pytest.raises(KeyboardInterrupt):
            run()
        with pytest.raises(HTCLError, match="the run is being ended"):
            started()
        Step.submit = staticmethod(lambda *arguments: Future(lambda: None))
        assert run() == "key"
        allow_sessions()
        assert started()
    finally:
        allow_sessions()
