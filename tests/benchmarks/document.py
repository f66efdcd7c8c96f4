"""Tables in documents that a program writes: what stands between two comments of one name."""

from __future__ import annotations

import re
from pathlib import Path


def section(path: Path, name: str) -> str:
    """The text between `<!-- NAME -->` and `<!-- /NAME -->`."""
    found = _pattern(name).search(path.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{path} has no section <!-- {name} -->")
    return found[2].strip()


def replace_section(path: Path, name: str, text: str) -> None:
    """Put another text there."""
    section(path, name)
    before = path.read_text(encoding="utf-8")
    path.write_text(_pattern(name).sub(lambda found: f"{found[1]}\n{text}\n{found[3]}", before), encoding="utf-8")


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(f"(<!-- {name} -->)(.*?)(<!-- /{name} -->)", re.DOTALL)
