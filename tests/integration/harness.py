"""What the integration tests share beside fixtures: where things are, and what a run is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htcl.config import PipelineConfig
from htcl.evaluation.results import Split, Task, shared_queries

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent.parent
CONCERT = ROOT.parent / "shared" / "data" / "concert"
SONGS = 96

TINY = {
    "stage1": {"epochs": 2, "global_batch_size": 16},
    "stage2": {"epochs": 1, "global_batch_size": 64},
    "nightly": {"epochs": 1},
    "steps": {"retry_seconds": 1},
    "evaluation": {"bootstrap_samples": 200},
    "gate": {"min_effective_rank": 1.0, "max_mean_cosine": 1.0},  # so little training leaves a narrow space
    "report": {"text_queries": ["slow sad waltz on a harp"], "previews": 4},
}
ONE_RANK = {"training": {"processes": 1}}
"""For runs in which nothing depends on there being two: each costs seconds to start."""

Floats = npt.NDArray[np.float64]
Htcl = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Run:
    """A configuration, what its runs printed, and the Prefect home that they left their records in."""

    path: Path
    config: PipelineConfig
    killed: str
    finished: str
    prefect_home: Path


def pooled_queries(
    tables: Iterable[tuple[pa.Table, pa.Table]], task: Task, split: Split, metric: str
) -> tuple[Floats, Floats]:
    """One metric of two systems for the same queries of several worlds [queries], from per-query tables of each."""
    found = [shared_queries(after, before, task, split, metric) for after, before in tables]
    after, before = (np.concatenate(values) for values in zip(*found, strict=True))
    return after, before
