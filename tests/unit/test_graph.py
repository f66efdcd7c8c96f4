"""The order of the steps of a flow, and what a cancelled or failed one leaves to the next."""

from types import SimpleNamespace

import pytest
from prefect.states import Completed, Failed

from flows import graph
from flows.steps import REFUSED
from htcl.artifacts import Recipe
from htcl.errors import HTCLError, PassingError
from htcl.plan import Step
from htcl.processes import allow_sessions, run_process


class Future:
    def __init__(self, state=None, wait=lambda: None):
        self.state, self.wait = state or Completed(data="key"), wait


def started():
    return run_process(["true"], print)[0] == 0


def test_a_cancelled_run_starts_no_more_processes_and_the_next_run_does():
    def cancelled():
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            graph.wait_for([Future(), Future(wait=cancelled)])
        with pytest.raises(HTCLError, match="the run is being ended"):
            started()
        assert graph.wait_for([Future()]) == ["key"]
        allow_sessions()
        assert started()
    finally:
        allow_sessions()


@pytest.mark.parametrize(("name", "kind"), [(REFUSED, HTCLError), (None, PassingError)])
def test_a_failed_step_ends_the_run_with_its_sentence_when_the_others_have_ended(name, kind):
    waited = []
    refused = Future(Failed(message="mend the log", name=name), lambda: waited.append("refused"))
    futures = [Future(), refused, Future(wait=lambda: waited.append("beside it"))]
    with pytest.raises(HTCLError, match="mend the log") as told:
        graph.wait_for(futures)
    assert type(told.value) is kind
    assert waited == ["refused", "beside it"]


def test_a_step_waits_for_those_that_it_reads_and_no_others(monkeypatch):
    reads = {"catalog": [], "shards": ["catalog"], "pairs": ["shards", "log"], "stage1": ["shards"]}
    steps = {
        name: Step(name, Recipe(name, 1, {}, {parent: f"{parent}-key" for parent in parents}), False, "never run here")
        for name, parents in reads.items()
    }
    waits = {}

    class Work:
        def with_options(self, refresh_cache):
            return self

        def submit(self, run, step, champion, fine_tune, wait_for):
            waits[step.name] = [future.state.data for future in wait_for]
            return Future(Completed(data=step.name))

    monkeypatch.setattr(graph, "plan", lambda *arguments: steps)
    monkeypatch.setattr(graph, "retried", lambda config, work: Work())
    made = graph.make(SimpleNamespace(config=None, inputs={}), ["shards", "pairs", "stage1"])
    assert made == {"shards": "shards", "pairs": "pairs", "stage1": "stage1"}
    assert waits == {"shards": [], "pairs": ["shards"], "stage1": ["shards"]}
