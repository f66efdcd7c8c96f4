"""What the log held day by day, as rows with a sparkline."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from htcl.pairs import QUALITY_FOLDER
from htcl.report.charts import path, position

_MEASURES = ("events", "funnel", "rejects")


@dataclass(frozen=True)
class QualityRow:
    """One thing that is counted by day: its sum, its middle and outer days, and all days as an SVG path."""

    measure: str
    name: str
    total: int
    median: float
    least: int
    most: int
    spark: str


def quality_rows(pairs: Path) -> list[QualityRow]:
    """What the log's quality table of a pairs artifact says of its days, largest counts first."""
    table = ds.dataset(pairs / QUALITY_FOLDER, format="parquet").to_table().to_pylist()
    dated = [row for row in table if row["dt"] is not None and row["measure"] in _MEASURES]
    days = sorted({row["dt"] for row in dated})
    counts: dict[tuple[str, str], dict[str, float]] = {}
    for row in dated:
        counts.setdefault((row["measure"], row["name"]), {})[row["dt"]] = row["value"]
    rows = [_row(*key, [found.get(day, 0) for day in days]) for key, found in counts.items()]
    return sorted(rows, key=lambda row: (_MEASURES.index(row.measure), -row.total))


def _row(measure: str, name: str, values: Sequence[float]) -> QualityRow:
    low, high = 0.0, max(values)
    dots = [(position(day, 0, len(values) - 1), 100 - position(value, low, high)) for day, value in enumerate(values)]
    return QualityRow(
        measure, name, round(sum(values)), statistics.median(values), round(min(values)), round(max(values)), path(dots)
    )


def unusual(figures: dict[str, Any]) -> list[str]:
    """Sentences on days that are not as usual, from the figures of a pairs artifact."""
    return [str(sentence) for sentence in figures.get("unusual", [])]
