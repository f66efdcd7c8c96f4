"""Pair mining as lines of the table: how it grows, against DuckDB, one day alone, a skewed log, and where time goes."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.events import DAYS, FIRST_DAY, Skew, write_log
from tests.benchmarks.mining import Mined, mine, prepare
from tests.benchmarks.spark_stages import Stage
from tests.benchmarks.table import Line
from tests.benchmarks.watched import Memory, watch

COMPARED_EVENTS = 10_000_000
SHORT_SECONDS = 1.0
"""A stage whose longest task is shorter says nothing of skew: starting it takes that long."""
LAST_DAY = str(FIRST_DAY + dt.timedelta(days=DAYS - 1))


@dataclass(frozen=True)
class Size:
    """The whole log of one size, mined.

    Attributes:
        events: of the log.
        log: its folder.
        config: of the workspace that holds its counts.
        mined: the run that counted everything.
    """

    events: int
    log: Path
    config: Path
    mined: Mined


def mine_sizes(folder: Path, sizes: Sequence[int]) -> list[Size]:
    """Logs of some sizes, each mined whole."""
    found = []
    for events in sorted(sizes):
        log = folder / f"log-{events}"
        write_log(log, events)
        config = prepare(folder / f"mined-{events}", log)
        found.append(Size(events, log, config, mine(config)))
        print(f"{_millions(events)}: counted in {found[-1].mined.count:.1f} s", flush=True)
    return found


def growth(sizes: Sequence[Size]) -> list[Line]:
    """Seconds and memory of each size, and the exponent by which seconds grow with events."""
    lines = []
    for size in sizes:
        what, mined = f"pair mining, {_millions(size.events)} events of {DAYS} days", size.mined
        lines += [
            Line(f"{what}: log to daily counts", f"{mined.count:.1f} s", "", f"{mined.start:.1f} s start apart", ""),
            Line(f"{what}: counts to snapshot", f"{mined.snapshot:.1f} s", "", "", ""),
            Line(
                f"{what}: most memory of JVM (2 GB heap) and Python, counting / snapshot",
                " / ".join(_gigabytes(memory) for memory in mined.memory),
                "",
                "",
                "ends within the heap",
            ),
        ]
    return lines + (_exponents(sizes) if len(sizes) > 1 else [])


def _exponents(sizes: Sequence[Size]) -> list[Line]:
    events = [size.events for size in sizes]
    what = f"growth exponent, {_millions(events[0])} to {_millions(events[-1])} events: {{}}"
    count = slope(events, [size.mined.count for size in sizes])
    both = slope(events, [size.mined.count + size.mined.snapshot for size in sizes])
    return [
        Line(what.format("counting"), f"{count:.2f}", "", "", "at most 1.1"),
        Line(what.format("counting and snapshot"), f"{both:.2f}", "", "", "at most 1.1"),
    ]


def slope(events: Sequence[int], seconds: Sequence[float]) -> float:
    """The exponent by which seconds grow with events: the slope of the line through their logarithms."""
    return float(np.polyfit(np.log(events), np.log(seconds), 1)[0])


def compared(sizes: Sequence[Size]) -> Size:
    """The size that is held against DuckDB: 10 M events, or what comes nearest."""
    return min(sizes, key=lambda size: abs(size.events - COMPARED_EVENTS))


def against_duckdb(size: Size) -> list[Line]:
    """The same counting by DuckDB on as many cores: to the same result, and to bare counts."""
    what = f"counting {_millions(size.events)} events, against DuckDB {{}}"
    lines = []
    for words, kind, wanted in (
        ((), "to the same result in Parquet", "at most 4 x, 3 is the aim"),
        (("--bare",), "only counting: no sketches, no ids, nothing kept", "printed"),
    ):
        seconds, memory = _duckdb(size.log, words)
        relation = f"{size.mined.count / seconds:.1f} x"
        peer = f"{seconds:.1f} s, {_gigabytes(memory)}"
        lines.append(Line(what.format(kind), f"{size.mined.count:.1f} s", peer, relation, wanted))
    return lines


def _duckdb(log: Path, words: Sequence[str]) -> tuple[float, Memory]:
    out = log.with_suffix(".parquet")
    command = [sys.executable, "-m", "tests.benchmarks.duckdb_peer", str(log), str(out), *words]
    seen = watch(command, os.environ)
    out.unlink(missing_ok=True)
    return float(seen.lines[-1][1]), seen.peak()


def one_day(size: Size) -> list[Line]:
    """Count one day of a mined log again."""
    day = mine(size.config, "--start", LAST_DAY, "--end", LAST_DAY)
    what, share = f"of {_millions(size.events)} events in {DAYS} days", day.count / size.mined.count
    whole = f"{size.mined.count:.1f} s"
    return [
        Line(f"counting one day {what}, against all days", f"{day.count:.1f} s", whole, f"{share:.0%}", "at most 10 %")
    ]


def where_time_goes(size: Size) -> list[Line]:
    """Seconds by phase as the job says them, then its largest stages: seconds of all tasks together."""
    what = f"profile, {_millions(size.events)} events"
    lines = [Line(f"{what}: {name}", f"{value:.1f} s", "", "", "") for name, value in size.mined.phases.items()]
    stages = sorted(size.mined.stages, key=lambda stage: -sum(stage.seconds))[:6]
    for stage in sorted(stages, key=size.mined.stages.index):
        figures = f"{len(stage.seconds)} tasks, {stage.shuffled / 1e6:.0f} MB shuffled"
        lines.append(Line(f"{what}: {_name(stage)}", f"{sum(stage.seconds):.1f} task-s", "", figures, ""))
    return lines


def skewed(folder: Path, events: int) -> list[Line]:
    """One user with a tenth of all events, one song in half of all sessions: the longest task of each stage."""
    log = folder / "skewed"
    write_log(log, events, Skew(user=0.1, song=0.5))
    mined = mine(prepare(folder / "mined-skewed", log))
    shutil.rmtree(log)
    what = f"skew, {_millions(events)} events ({_millions(events // 10)} of one user, one song in half of all sessions)"
    lines = []
    for stage in mined.stages:
        longest = max(stage.seconds)
        if longest >= SHORT_SECONDS and len(stage.seconds) > 1:
            figures = f"{longest:.1f} s", f"{longest / stage.skew:.1f} s", f"{stage.skew:.1f} x"
            lines.append(Line(f"{what}: longest task against the median, {_name(stage)}", *figures, "under 5 x"))
    return lines


def _name(stage: Stage) -> str:
    call, _, place = stage.name.partition(" at ")
    return f"{call} at {place.rpartition('/')[2]}"


def _millions(events: int) -> str:
    return f"{events / 1e6:g} M"


def _gigabytes(memory: Memory) -> str:
    return f"{sum(memory.values()) / 1000:.1f} GB"
