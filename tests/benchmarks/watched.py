"""A process that is watched from outside: when it said what, and how much memory it and all its children took."""

from __future__ import annotations

import math
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY_SECONDS = 0.2


Memory = dict[str, float]
"""MB by program at one moment: each page counts once, whoever shares it."""


@dataclass(frozen=True)
class Watched:
    """What was seen of a process.

    Attributes:
        lines: (seconds since the start, line) of standard error and output.
        memory: (seconds since the start, what it and its children took then).
    """

    lines: list[tuple[float, str]]
    memory: list[tuple[float, Memory]]

    def peak(self, start: float = 0.0, end: float = math.inf) -> Memory:
        """What was taken between two moments when it was most."""
        found = [memory for moment, memory in self.memory if start <= moment <= end]
        return max(found, key=lambda memory: sum(memory.values()), default={})


def watch(command: Sequence[str], environment: Mapping[str, str]) -> Watched:
    """Run a command to its end.

    Raises:
        RuntimeError: with its last lines, when it fails.
    """
    seen, ended, started = Watched([], []), threading.Event(), time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    sampler = threading.Thread(target=_sample, args=(process.pid, seen, started, ended), daemon=True)
    sampler.start()
    assert process.stdout is not None
    for line in process.stdout:
        seen.lines.append((time.perf_counter() - started, line.rstrip("\n")))
    code = process.wait()
    ended.set()
    sampler.join()
    if code:
        said = "\n".join(line for _, line in seen.lines[-30:])
        raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{said}")
    return seen


def _sample(pid: int, seen: Watched, started: float, ended: threading.Event) -> None:
    while not ended.wait(EVERY_SECONDS):
        parts: Memory = {}
        for member in _tree(pid):
            name, size = _program(member), _proportional(member)
            parts[name] = parts.get(name, 0.0) + size
        seen.memory.append((time.perf_counter() - started, parts))


def _tree(pid: int) -> list[int]:
    """A process and all that it started, directly or not."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (stat := _text(folder / "stat")):
            # The program's name in brackets may hold anything; the parent is the second field behind it.
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(folder.name))
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def _program(pid: int) -> str:
    name = _text(Path(f"/proc/{pid}/comm")).strip()
    return "python" if name.startswith("python") else name


def _proportional(pid: int) -> float:
    """MB of a process, shared pages by their share: workers that were forked share most of theirs."""
    for line in _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended meanwhile
        return ""
