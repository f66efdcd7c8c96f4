"""The order of the steps of a flow, and what a cancelled or failed one leaves to the next."""

from types import SimpleNamespace

import pytest
from prefect.states import Completed, Failed, Pending

from flows import graph
from flows.steps import REFUSED
from htcl.artifacts import Recipe
from htcl.errors import HTCLError, PassingError
from htcl.plan import Step
from htcl.processes import allow_sessions, run_process


class Future:
    """As Prefect's: its state is known once it has been waited for."""

    def __init__(self, state=None):
        self.state, self._final_state = Pending(), state or Completed(data="key")

    def wait(self):
        self.state = self._final_state


@pytest.fixture(autouse=True)
def ended_in_turn(monkeypatch):
    """Tasks end in the order in which they are given."""
    monkeypatch.setattr(graph, "as_completed", iter)


def started():
    return run_process(["true"], print)[0] == 0


def test_a_cancelled_run_starts_no_more_processes_and_the_next_run_does(monkeypatch):
    def cancelled(futures):
        raise KeyboardInterrupt

    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(graph, "as_completed", cancelled)
            graph.wait_for([Future()])
        with pytest.raises(HTCLError, match="the run is being ended"):
            started()
        assert graph.wait_for([Future()]) == ["key"]
        allow_sessions()
        assert started()
    finally:
        allow_sessions()


@pytest.mark.parametrize(("name", "kind"), [(REFUSED, HTCLError), (None, PassingError)])
def test_the_first_failed_step_ends_the_run_with_its_sentence(monkeypatch, name, kind):
    looked_at = []
    monkeypatch.setattr(graph, "as_completed", lambda futures: (looked_at.append(f) or f for f in futures))
    not_ready = Future(Pending(name="NotReady", message="a step that it reads"))
    refused = Future(Failed(message="mend the log", name=name))
    futures = [Future(), not_ready, refused, Future()]
    with pytest.raises(HTCLError, match="mend the log") as told:
        graph.wait_for(futures)
    assert type(told.value) is kind
    assert looked_at == futures[:3]


@pytest.mark.parametrize(
    ("side_by_side", "of_stage1"), [(True, ["shards"]), (False, ["shards", "pairs"])], ids=["at once", "in turn"]
)
def test_a_step_waits_for_those_that_it_reads(monkeypatch, side_by_side, of_stage1):
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
            waits[step.name] = [future._final_state.data for future in wait_for]
            return Future(Completed(data=step.name))

    monkeypatch.setattr(graph, "plan", lambda *arguments: steps)
    monkeypatch.setattr(graph, "retried", lambda config, work: Work())
    config = SimpleNamespace(steps=SimpleNamespace(side_by_side=side_by_side))
    made = graph.make(SimpleNamespace(config=config, inputs={}), ["shards", "pairs", "stage1"])
    assert made == {"shards": "shards", "pairs": "pairs", "stage1": "stage1"}
    assert waits == {"shards": [], "pairs": ["shards"], "stage1": of_stage1}
