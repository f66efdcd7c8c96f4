"""Training on two hosts over ssh: the weights of one host, and every fault ends both and is named."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.config_file import save_config
from htcl.logs import parse_line
from htcl.plan import plan
from htcl.training.launch import run_stage
from tests.multinode.hosts import TwoHosts, two_hosts, why_not
from tests.unit.test_processes import await_end
from tests.unit.training.conftest import Project, make_project

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

STAGE1: dict[str, Any] = {"epochs": 10, "dropout": 0.05}
STAGE2 = {"epochs": 3, "dropout": 0.05}
TRAINING = {"processes": 2, "stall_seconds": 8, "checkpoint_every_steps": 10}
RANK, AGENT = "htcl.training.worker", "htcl.training.agent"
HANGS = "(is silent|does not get on) for"

DRIVER = """
import signal
import sys
from htcl.config_file import load_config
from htcl.errors import HTCLError
from htcl.plan import plan
from htcl.processes import end_live_sessions
from htcl.training.launch import run_stage

signal.signal(signal.SIGTERM, lambda *_: end_live_sessions())  # as a cancelled flow does
for stage in sys.argv[2:]:
    config = load_config(sys.argv[1])
    try:
        run_stage(config, plan(config)[stage], lambda line: print(line, flush=True))
    except HTCLError as error:
        sys.exit(f"failed: {error}")
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    with two_hosts(tmp_path_factory.mktemp("hosts") / "two") as made:
        yield made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("project"))


def on_hosts(project: Project, hosts: TwoHosts, name: str, epochs: int = STAGE1["epochs"]) -> Path:
    """A new workspace and the path of its configuration with the hostfile."""
    config, _ = project(name, {**TRAINING, "hostfile": str(hosts.hostfile)}, {**STAGE1, "epochs": epochs}, STAGE2)
    return save_config(config, Path(config.workspace) / "config.yaml")


def weights(config: PipelineConfig, stage: str) -> dict[str, torch.Tensor]:
    return load_file(ArtifactStore(config.workspace).fetch(stage, plan(config)[stage].key) / "model.safetensors")


def read(process: subprocess.Popen[str], at_step: int = -1, act: Callable[[], None] = lambda: None) -> list[str]:
    """All lines of a run; `act` is called once when it has logged a step."""
    lines = []
    assert process.stdout
    for line in process.stdout:
        lines.append(line.rstrip())
        logged = parse_line(line)
        if logged and logged.message == "step" and int(logged.fields["global_step"]) == at_step:
            act()
    process.wait(300)
    return lines


def test_two_hosts_end_with_the_weights_of_one(project: Project, hosts: TwoHosts) -> None:
    path = on_hosts(project, hosts, "two")
    lines = read(hosts.start(DRIVER, str(path), "stage1", "stage2"))
    config, _ = project("one", TRAINING, STAGE1, STAGE2)
    for stage in ("stage1", "stage2"):
        run_stage(config, plan(config)[stage], lambda line: None)
        there = config.model_copy(update={"workspace": str(Path(config.workspace).parent / "two")})
        found, expected = weights(there, stage), weights(config, stage)
        assert found.keys() == expected.keys(), lines[-5:]
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items()), stage
    assert hosts.pids(AGENT) == [] and hosts.pids(RANK) == []


@pytest.mark.parametrize(("sign", "words"), [(signal.SIGKILL, r"was killed by SIGKILL$"), (signal.SIGSTOP, HANGS)])
def test_a_rank_that_dies_or_hangs_is_named_with_its_host(
    project: Project, hosts: TwoHosts, sign: signal.Signals, words: str
) -> None:
    process = hosts.start(DRIVER, str(on_hosts(project, hosts, sign.name)), "stage1")
    ranks: list[int] = []

    def strike() -> None:
        ranks.extend(hosts.pids(RANK))
        os.kill(hosts.pids(RANK, host=1)[0], sign)

    lines = read(process, 2, strike)
    assert re.match(f"failed: stage1: rank 1 on host node1 {words}", lines[-1])
    assert len(ranks) == 2 and await_end(ranks, 10) == []


def test_a_dead_launcher_takes_all_ranks_with_it(project: Project, hosts: TwoHosts) -> None:
    process = hosts.start(DRIVER, str(on_hosts(project, hosts, "launcher")), "stage1")
    started: list[int] = []

    def kill() -> None:
        started.extend([*hosts.pids(RANK), *hosts.pids(AGENT)])
        process.kill()

    read(process, 2, kill)
    assert len(started) >= 4 and await_end(started, 40) == []


def test_a_cancelled_run_leaves_a_checkpoint_on_the_way_out(project: Project, hosts: TwoHosts) -> None:
    path = on_hosts(project, hosts, "cancelled", epochs=1000)
    process = hosts.start(DRIVER, str(path), "stage1")
    lines = read(process, 12, process.terminate)
    done = "failed: stage1: interrupted; what is done is in a checkpoint, from which the next run goes on"
    assert lines[-1] == done, lines[-5:]
    assert hosts.pids(AGENT) == [] and hosts.pids(RANK) == []
    (said, *_) = [line.message for line in map(parse_line, lines) if line and "interrupted after" in line.message]
    step = re.search(r"after step (\d+) of", said)
    assert step
    (manifest,) = path.parent.glob(f"training/*/checkpoints/step-{step[1]}/manifest.json")
    assert json.loads(manifest.read_text())["step"] == int(step[1]) >= 12


def test_a_cut_network_ends_both_hosts_and_names_the_lost_one(project: Project, hosts: TwoHosts) -> None:
    process = hosts.start(DRIVER, str(on_hosts(project, hosts, "cut")), "stage1")
    started: list[int] = []

    def cut() -> None:
        started.extend([*hosts.pids(RANK), *hosts.pids(AGENT)])
        hosts.cut()

    try:
        lines = read(process, 2, cut)
        assert "node1" in lines[-1] and lines[-1].startswith("failed: stage1: "), lines[-5:]
        assert len(started) >= 4 and await_end(started, 60) == []
    finally:
        hosts.mend()


def test_a_workspace_that_is_not_shared_is_named_before_step_0(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config, _ = project("private", {**TRAINING}, STAGE1, STAGE2)
    folder = tmp_path_factory.mktemp("private") / "two"
    with two_hosts(folder, hidden=Path(config.workspace)) as hosts:
        training = config.training.model_copy(update={"hostfile": str(hosts.hostfile)})
        path = save_config(config.model_copy(update={"training": training}), folder / "config.yaml")
        lines = read(hosts.start(DRIVER, str(path), "stage1"))
    assert lines[-1].startswith("failed: stage1: the workspace is not shared: node1 does not see"), lines[-5:]
    assert not any("msg=training" in line for line in lines)
