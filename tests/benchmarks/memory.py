"""Peak memory of loss and its gradient as ranks are added, each with as many rows as before."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import torch

from htcl.training.losses import stage2_loss
from tests.benchmarks.table import Line

ROWS, SIZE, RANKS = 1024, 100, (1, 2, 4, 8)


def growth() -> list[Line]:
    """One line for each number of ranks: own rows, as one of so many ranks, against the whole matrix."""
    lines = []
    for ranks in RANKS:
        own, whole = (_measured(ranks, full) for full in (False, True))
        what = f"memory of stage 2's loss, {ROWS} pairs a rank, {ranks} ranks (simulated), against the whole matrix"
        lines.append(Line(what, f"{own:.0f} MB", f"{whole:.0f} MB", f"{own / whole:.2f} x", "grows like the ranks"))
    return lines


def _measured(ranks: int, full: bool) -> float:
    # In a process of its own, which gives every matrix back to the system at once: only so is the peak seen.
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.memory", str(ranks), str(int(full))],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _peak(ranks: int, full: bool) -> float:
    """MB that loss and backward of rank 0 take on top of the embeddings of all ranks."""
    torch.manual_seed(0)
    batch = ROWS * ranks
    views = [tuple(torch.randn(batch, SIZE, requires_grad=True) for _ in range(2)) for _ in range(3)]
    taus = tuple(torch.full((1,), 2.6, requires_grad=True) for _ in range(3))
    own = None if full else torch.arange(ROWS)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is counted from here
    before = _memory("VmRSS")
    loss, _ = stage2_loss(*views, taus, own)  # type: ignore[arg-type]
    loss.backward()  # type: ignore[no-untyped-call]
    return _memory("VmHWM") - before


def _memory(field: str) -> float:
    """MB by a line of this process's status; getrusage starts at the peak of who started the process."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    print(_peak(int(sys.argv[1]), bool(int(sys.argv[2]))))
