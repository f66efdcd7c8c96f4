"""The result rows as tables: one block per task and split, systems down, metrics across."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from htcl.report.charts import Whisker, whiskers
from htcl.report.data import ResultRow


@dataclass(frozen=True)
class Cell:
    """One value of a table."""

    row: ResultRow
    best: bool
    whisker: Whisker | None


@dataclass(frozen=True)
class Block:
    """The table of one task and split.

    `lines` maps a system to one cell per metric, None where the system has no such value.
    `n` is None where it differs from cell to cell, 0 where nothing was held out.
    """

    task: str
    split: str
    metrics: list[str]
    lines: dict[str, list[Cell | None]]
    n: int | None


def blocks(rows: Sequence[ResultRow]) -> list[Block]:
    """Every task and split, in the order in which they first appear."""
    grouped: dict[tuple[str, str], list[ResultRow]] = {}
    for row in rows:
        grouped.setdefault((row.task, row.split), []).append(row)
    return [_block(task, split, members) for (task, split), members in grouped.items()]


def _block(task: str, split: str, rows: Sequence[ResultRow]) -> Block:
    metrics = list(dict.fromkeys(row.metric for row in rows))
    systems = list(dict.fromkeys(row.system for row in rows))
    columns = {metric: _column([row for row in rows if row.metric == metric]) for metric in metrics}
    sizes = {row.n for row in rows}
    return Block(
        task=task,
        split=split,
        metrics=metrics,
        lines={system: [columns[metric].get(system) for metric in metrics] for system in systems},
        n=sizes.pop() if len(sizes) == 1 else None,
    )


def _column(rows: Sequence[ResultRow]) -> dict[str, Cell]:
    """The cells of one metric by system, on one scale; a lone system is nobody's best."""
    values = [row.value for row in rows if math.isfinite(row.value)]
    best = math.nan
    if len(values) > 1:
        best = max(values) if rows[0].higher_is_better else min(values)
    pictures = whiskers([(row.value, row.low, row.high) for row in rows])
    return {row.system: Cell(row, row.value == best, picture) for row, picture in zip(rows, pictures, strict=True)}
