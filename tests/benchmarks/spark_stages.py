"""What Spark's event log says of a job: for each stage how long its tasks took, and what they handed on."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Stage:
    """One stage.

    Attributes:
        name: the call that it belongs to.
        seconds: of each task, from its launch to its end.
        shuffled: bytes that its tasks wrote for the next stage.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    shuffled: int = 0

    @property
    def skew(self) -> float:
        """The longest task over the median."""
        return max(self.seconds) / max(statistics.median(self.seconds), 1e-3)


def settings(folder: Path) -> list[str]:
    """Arguments of spark-submit that have the event log written into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"enabled": "true", "dir": folder.as_uri(), "rolling.enabled": "false", "compress": "false"}
    return [word for key, value in said.items() for word in ("--conf", f"spark.eventLog.{key}={value}")]


def read_stages(folder: Path) -> list[Stage]:
    """The stages of the only job whose event log lies in a folder, in their order."""
    (path,) = folder.iterdir()
    stages: dict[int, Stage] = {}
    for event in _events(path):
        if event["Event"] == "SparkListenerStageSubmitted":
            info = event["Stage Info"]
            stages.setdefault(info["Stage ID"], Stage(info["Stage Name"]))
        elif event["Event"] == "SparkListenerTaskEnd" and event["Task End Reason"]["Reason"] == "Success":
            stage, info = stages[event["Stage ID"]], event["Task Info"]
            stage.seconds.append((info["Finish Time"] - info["Launch Time"]) / 1000)
            stage.shuffled += event["Task Metrics"]["Shuffle Write Metrics"]["Shuffle Bytes Written"]
    return [stage for _, stage in sorted(stages.items()) if stage.seconds]


def _events(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
