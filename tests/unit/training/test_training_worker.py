"""A rank knows who it is, reads what it is to train, and says in one line why it ended."""

import io
import json
import os
import signal
import socket
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from htcl.artifacts import Recipe
from htcl.errors import HTCLError, Interrupted
from htcl.plan import Step
from htcl.training import worker
from htcl.training.agent import EXIT_INTERRUPTED
from htcl.training.worker import DEFAULT_PORT, describe, read_rank

HOST = socket.gethostname()
STEP = Step("stage2", Recipe("stage2", 3, {"stage2": {"epochs": 2, "dropout": 0.1}}, {"champion": "0123"}), False, "")


@pytest.fixture(autouse=True)
def _sigterm_as_before():
    """A rank that was interrupted ignores SIGTERM; the processes of other tests would inherit that."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def config(make_config):
    return make_config(processes=2, deepspeed={"zero_optimization": {"overlap_comm": True}})


@pytest.fixture
def trained(monkeypatch):
    """What `htcl.training.loop.train` is called with, in its place."""
    calls = []
    fake = SimpleNamespace(train=lambda *arguments: calls.append(arguments), join_ranks=lambda config: None)
    monkeypatch.setitem(sys.modules, "htcl.training.loop", fake)
    monkeypatch.setattr(os, "environ", {**os.environ, "RANK": "1"})
    return calls


def test_a_rank_of_slurm_is_read_from_its_variables():
    env = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "MASTER_ADDR": "alpha"}
    read_rank(env)
    assert {name: env[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")} == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "alpha",
        "MASTER_PORT": DEFAULT_PORT,
    }


def test_the_usual_variables_are_stronger_than_slurms():
    given = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "3", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    env = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", **given}
    read_rank(env)
    assert given.items() <= env.items()


def test_a_rank_is_the_first_of_its_host_unless_told_otherwise():
    env = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}
    read_rank(env)
    assert (env["LOCAL_RANK"], env["MASTER_PORT"]) == ("0", DEFAULT_PORT)


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "MASTER_ADDR"])
def test_a_missing_variable_is_named_with_the_way_out(missing):
    env = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a"}
    del env[missing]
    with pytest.raises(HTCLError, match=rf"^{missing} is not set: .*export MASTER_ADDR.*`htcl run` starts ranks"):
        read_rank(env)


def fail(error):
    def train_it():
        raise error

    return train_it


def test_a_rank_without_an_error_says_nothing(logged):
    assert worker._guarded(lambda: None) == 0
    assert logged == []


@pytest.mark.parametrize(("rank", "said"), [("3", "3"), (None, "0")])
def test_an_error_of_ours_is_one_line_with_rank_and_host(monkeypatch, logged, rank, said):
    monkeypatch.delenv("RANK", raising=False)
    if rank:
        monkeypatch.setenv("RANK", rank)
    assert worker._guarded(fail(HTCLError("3 samples; lower it"))) == 1
    (line,) = logged
    assert (line.level, line.message) == ("error", "3 samples; lower it")
    assert line.fields == {"rank": said, "host": HOST, "ends": "True"}


@pytest.mark.parametrize("error", [ZeroDivisionError("by\nzero"), RuntimeError()])
def test_any_other_error_is_also_raised(monkeypatch, logged, error):
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(type(error)):
        worker._guarded(fail(error))
    (line,) = logged
    assert (line.level, line.message) == ("error", str(error).replace("\n", " "))
    assert line.fields == {"rank": "3", "host": HOST, "exception": type(error).__name__, "ends": "True"}


def test_an_interrupted_rank_leaves_without_an_error(monkeypatch, logged):
    monkeypatch.setenv("RANK", "3")
    assert worker._guarded(fail(Interrupted("interrupted after step 4 of 9"))) == EXIT_INTERRUPTED
    (line,) = logged
    assert (line.level, line.message) == ("info", "interrupted after step 4 of 9")


def test_a_rank_reads_the_configuration_and_the_recipe_that_were_described(config, trained, monkeypatch):
    """Ranks must not plan again: an input that grew meanwhile would give them other keys."""
    monkeypatch.setattr(worker, "setup_logging", lambda: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(describe(config, STEP)) + "\n"))
    with pytest.raises(SystemExit) as left:
        worker.main()
    assert left.value.code == 0
    ((read_config, read_step, liveness),) = trained
    assert (read_config, read_step) == (config, STEP) and read_step.key == STEP.key
    assert (liveness._rank, liveness._stall_seconds, liveness._pulses) == (1, 600, True)


def test_the_place_of_a_rank_is_watched_while_it_trains(config, trained, monkeypatch):
    watched = []

    @contextmanager
    def watch(self):
        watched.append(len(trained))
        yield
        watched.append(len(trained))

    monkeypatch.setattr("htcl.training.liveness.Liveness.watched", watch)
    worker._train(config, lambda: STEP, placed=True)
    assert watched == [0, 1]


@pytest.fixture
def scheduled(config, trained, monkeypatch):
    """Train as rank `rank` of a scheduler, where rank 0 has planned `planned`; returns what was broadcast."""

    def run(rank, planned):
        shared = []

        def broadcast(values, src):
            assert src == 0
            shared.append(values[0])
            values[0] = None if planned.published else planned.recipe

        def plan(config):
            assert rank == 0, "only rank 0 plans"
            return {"stage2": planned}

        os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="alpha")
        monkeypatch.setattr("torch.distributed.get_rank", lambda: rank)
        monkeypatch.setattr("torch.distributed.broadcast_object_list", broadcast)
        monkeypatch.setattr(worker, "plan", plan)
        assert worker.train_as_rank(config, "stage2") == 0
        return shared

    return run


@pytest.mark.parametrize("rank", [0, 1])
def test_of_a_schedulers_ranks_the_first_plans_for_all(config, trained, scheduled, rank):
    assert scheduled(rank, STEP) == [STEP.recipe if rank == 0 else None]
    ((read_config, read_step, liveness),) = trained
    assert (read_config, read_step) == (config, STEP)
    assert (liveness._rank, liveness._pulses) == (rank, False)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_published_stage_is_not_trained_again(trained, scheduled, logged, rank):
    assert scheduled(rank, Step("stage2", STEP.recipe, True, "published")) == [None]
    assert trained == []
    assert [line.message for line in logged] == ["skipped, nothing changed"]


def test_a_rank_that_no_scheduler_placed_is_told_so_before_anything_is_loaded(config, trained):
    del os.environ["RANK"]
    os.environ.pop("SLURM_PROCID", None)
    with pytest.raises(HTCLError, match="RANK is not set"):
        worker.train_as_rank(config, "stage2")


@pytest.mark.parametrize(
    ("gpus", "local", "placed", "ends"),
    [(0, "3", False, "3"), (8, "3", False, "3"), (1, "3", True, "0"), (1, "1", False, None), (4, "4", True, None)],
)
def test_every_rank_has_a_gpu_of_its_own_or_the_error_says_so(monkeypatch, gpus, local, placed, ends):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_RANK", local)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    if ends is None:
        with pytest.raises(HTCLError, match=rf"host \S+ has {gpus} GPUs for {int(local) + 1} ranks or more"):
            worker._choose_accelerator(placed)
    else:
        worker._choose_accelerator(placed)
        assert os.environ["LOCAL_RANK"] == ends
        assert os.environ.get("DS_ACCELERATOR") == (None if gpus else "cpu")
