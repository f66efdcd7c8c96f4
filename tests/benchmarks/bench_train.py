"""What training costs beside the arithmetic that it cannot do without: `make bench-train` prints it as a table.

Every line is a ratio of two things measured in this run on this machine, one after the other in turns.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tests.benchmarks import accelerator, authors, memory, reading, step
from tests.benchmarks.table import Line, print_table


def main() -> None:
    """Run all benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="measurements of each thing; the median counts")
    parser.add_argument("--log", type=Path, help="interactions (JSONL, folder) whose pair multiplicity is used")
    options = parser.parse_args()
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531"}
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        parts: list[Callable[[], list[Line]]] = [
            lambda: step.overhead(options.rounds),
            lambda: reading.data_wait(Path(folder)),
            lambda: authors.against(options.rounds, options.log),
            lambda: reading.throughput(Path(folder), options.rounds),
            memory.growth,
            lambda: accelerator.figures(options.rounds),
        ]
        for part in parts:
            started = time.monotonic()
            lines += part()
            print(f"{lines[-1].what}: {time.monotonic() - started:.0f} s", flush=True)
    print_table(lines)


if __name__ == "__main__":
    main()
