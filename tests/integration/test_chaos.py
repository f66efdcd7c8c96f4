"""Some of the faults of `make chaos`, injected into the finished run that the other tests look at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.__main__ import inject_all
from tests.chaos.faults import FAULTS
from tests.chaos.flow import MARK, SERVED
from tests.chaos.truth import read_truth
from tests.chaos.world import World

from .harness import Run
from .serving import serving

INJECTED = [
    "SIGKILL of a driver",
    "SIGKILL of the flow process",
    "disk full",
    "read-only workspace",
    "damaged shard",
    "damaged manifest",
    "damaged index",
    "same flow started twice",
]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts small file systems: needs root")
def test_faults_change_nothing(demo_run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    world = World(demo_run.path, read_truth(demo_run.config.workspace), 0.0, {}, earliest="evaluation")
    with serving({**environment, MARK: SERVED}, tmp_path / "served.log") as served:
        own = {**environment, "PREFECT_API_URL": served.env["PREFECT_API_URL"]}
        outcomes = inject_all(world, INJECTED, tmp_path, own, served, seed=7)
    assert [outcome.line for outcome in outcomes if not outcome.sound] == []
    assert {outcome.fault for outcome in outcomes} == set(INJECTED) <= set(FAULTS)
    assert sum(outcome.result == "came too late" for outcome in outcomes) < len(INJECTED) / 2
