"""What the data jobs cost: `make bench-data` prints it as a table.

Every line with a peer is a ratio of two things measured in this run on this machine. Each job runs in processes of its
own, and so does its peer.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.constants import save_measured
from tests.benchmarks.document import replace_section
from tests.benchmarks.measured import MEASURED_FILE
from tests.benchmarks.mining_lines import (
    COMPARED_EVENTS,
    against_duckdb,
    compared,
    growth,
    mine_sizes,
    one_day,
    skewed,
    where_time_goes,
)
from tests.benchmarks.table import Line, markdown

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "data.md"
SIZES = [1_000_000, 3_000_000, 10_000_000, 30_000_000]
PARTS = ("mining", "skew", "shards", "embeddings")


def main() -> None:
    """Run the parts that are asked for."""
    kept = f"{MEASURED_FILE.relative_to(ROOT)} (constants of docs/scale.md) and {DOCUMENT.relative_to(ROOT)} (table)"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=lambda text: int(float(text)), nargs="+", default=SIZES, help="sizes of logs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured")
    parser.add_argument("--save", action="store_true", help=f"write {kept}; needs mining of two sizes")
    options = parser.parse_args()
    if options.save and (len(options.events) < 2 or "mining" not in options.parts):
        parser.error("--save needs mining of two sizes")
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as name:
        for part in _parts(Path(name), options):
            lines += part()
            print(f"\n{markdown(lines)}", flush=True)  # what was measured is not lost when a later part fails
    if options.save:
        replace_section(DOCUMENT, "bench-data", markdown(lines))


def _parts(folder: Path, options: argparse.Namespace) -> list[Callable[[], list[Line]]]:
    parts: dict[str, Callable[[], list[Line]]] = {
        "mining": lambda: _mining(folder, options.events, options.save),
        "skew": lambda: skewed(folder, min(max(options.events), COMPARED_EVENTS)),
    }
    # Only where they are asked for: they bring torch.
    if "shards" in options.parts:
        from tests.benchmarks import shards_rate

        parts["shards"] = shards_rate.figures
    if "embeddings" in options.parts:
        from tests.benchmarks import embed_rate

        parts["embeddings"] = embed_rate.figures
    return [parts[name] for name in PARTS if name in options.parts]


def _mining(folder: Path, events: list[int], save: bool) -> list[Line]:
    sizes = mine_sizes(folder, events)
    if save:
        save_measured(sizes, folder)
    size = compared(sizes)
    return [*growth(sizes), *against_duckdb(size), *where_time_goes(size), *one_day(sizes[-1])]


if __name__ == "__main__":
    main()
