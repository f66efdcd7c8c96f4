"""Peak memory of loss and step as ranks are added, each with as many pairs as before, and as each gets more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from htcl.training import step
from htcl.training.losses import stage2_loss
from tests.benchmarks.setting import batch_of, inputs_of, new_engine, new_mels, new_model, new_processor, train_on
from tests.benchmarks.table import Line

SIZE, RANKS = 100, (1, 2, 4, 8)
LOSS_PAIRS, STEP_PAIRS = 1024, 32
FRAMES, MICRO_BATCH = 200, 8


def growth() -> list[Line]:
    """The loss alone, own rows against the whole matrix; then a step with cached gradients."""
    lines = []
    for ranks in RANKS:
        own, whole = _measured("own", LOSS_PAIRS, ranks), _measured("whole", LOSS_PAIRS, ranks)
        what = f"memory of stage 2's loss, {LOSS_PAIRS} pairs a rank, {ranks} simulated ranks, against the whole matrix"
        lines.append(_line(what, own, whole, "grows like the ranks"))
    more = _measured("own", 2 * LOSS_PAIRS, RANKS[-1] // 2)
    what = f"the same for one global batch, {2 * LOSS_PAIRS} pairs a rank against {LOSS_PAIRS}"
    lines.append(_line(what, more, own, "at most 2 x"))
    one = _measured("step", STEP_PAIRS, 1)
    for ranks in RANKS[1:]:
        many = _measured("step", STEP_PAIRS, ranks)
        what = f"memory of a step of stage 2, {STEP_PAIRS} pairs a rank, {ranks} simulated ranks, against one rank"
        lines.append(_line(what, many, one, "about 1 x"))
    more = _measured("step", 2 * STEP_PAIRS, RANKS[-1] // 2)
    what = f"the same for one global batch, {2 * STEP_PAIRS} pairs a rank against {STEP_PAIRS}"
    lines.append(_line(what, more, many, "at most 2 x"))
    return lines


def _line(what: str, measured: float, peer: float, wanted: str) -> Line:
    return Line(what, f"{measured:.0f} MB", f"{peer:.0f} MB", f"{measured / peer:.2f} x", wanted)


def _measured(what: str, pairs: int, ranks: int) -> float:
    # In a process of its own, which gives every matrix back to the system at once: only so is the peak seen.
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.memory", what, str(pairs), str(ranks)],
        env={**os.environ, "MASTER_PORT": "0", "MALLOC_MMAP_THRESHOLD_": "65536"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def _loss(pairs: int, ranks: int, whole: bool) -> float:
    """MB that loss and backward of rank 0 take on top of the embeddings of all ranks."""
    torch.manual_seed(0)
    batch = pairs * ranks
    views = [tuple(torch.randn(batch, SIZE, requires_grad=True) for _ in range(2)) for _ in range(3)]
    taus = tuple(torch.full((1,), 2.6, requires_grad=True) for _ in range(3))
    own = None if whole else torch.arange(pairs)

    def act() -> None:
        loss, _ = stage2_loss(*views, taus, own)  # type: ignore[arg-type]
        loss.backward()  # type: ignore[no-untyped-call]

    return _peak(act)


def _step(pairs: int, ranks: int) -> float:
    """MB that forward and backward of rank 0 take, in micro-batches; the songs of the others come as embeddings."""
    songs = 2 * pairs
    mels, processor = new_mels([FRAMES] * songs), new_processor()
    parts = [
        inputs_of(processor, mels[first : first + MICRO_BATCH], list(range(first, first + MICRO_BATCH)))
        for first in range(0, songs, MICRO_BATCH)
    ]
    rows = np.arange(songs * ranks).reshape(-1, 2)
    batch = batch_of(parts, rows, rows, own=pairs)
    engine = new_engine(2, pairs, new_model(2))
    step.gather_rows = lambda own, with_gradient: torch.cat([own, torch.randn(songs * (ranks - 1), *own.shape[1:])])
    train_on(engine, batch, cached=True)  # what stays from step to step is there now
    return _peak(lambda: train_on(engine, batch, cached=True))


def _peak(act: Callable[[], object]) -> float:
    """MB that an act takes at most."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is counted from here
    before = _memory("VmRSS")
    act()
    return _memory("VmHWM") - before


def _memory(field: str) -> float:
    """MB by a line of this process's status; getrusage starts at the peak of who started the process."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    pairs, ranks = int(sys.argv[2]), int(sys.argv[3])
    print(_step(pairs, ranks) if sys.argv[1] == "step" else _loss(pairs, ranks, sys.argv[1] == "whole"))
