"""The table that a benchmark ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One comparison: what was measured, its peer in the same run, and what their relation should be."""

    what: str
    measured: str
    peer: str
    relation: str
    wanted: str


def markdown(lines: Sequence[Line]) -> str:
    """A Markdown table."""
    rows = [f"| {line.what} | {line.measured} | {line.peer} | {line.relation} | {line.wanted} |" for line in lines]
    return "\n".join(["| what | measured | peer | relation | wanted |", "|---|---:|---:|---:|---|", *rows])


def print_table(lines: Sequence[Line]) -> None:
    """Print Markdown."""
    print(f"\n{markdown(lines)}")
