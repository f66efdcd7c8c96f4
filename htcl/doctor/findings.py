"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        level: a problem makes a run fail; with a warning it may be slow, or fail later.
        what: was looked at.
        found: there.
        way_out: what to do about it; empty where all is well.
    """

    level: Level
    what: str
    found: str
    way_out: str = ""


def ok(what: str, found: str) -> Finding:
    """All is well."""
    return Finding("ok", what, found)


def warning(what: str, found: str, way_out: str) -> Finding:
    """It may be slow, or fail later."""
    return Finding("warning", what, found, way_out)


def problem(what: str, found: str, way_out: str) -> Finding:
    """A run would fail."""
    return Finding("problem", what, found, way_out)
