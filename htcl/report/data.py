"""The rows and figures that a report is made of, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One number or word of a headline, with its interval where it has one; `name` says whose it is."""

    value: int | float | str
    name: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Headline:
    """A figure for the top of the page; further figures are what the first is held against."""

    label: str
    figures: list[Figure]
    note: str = ""
    tone: Literal["plain", "good", "bad"] = "plain"


@dataclass(frozen=True)
class FunnelRow:
    """A count on the way through the pipeline; bars compare the rows of one group."""

    group: str
    label: str
    count: int
    rejected: bool = False
    note: str = ""


@dataclass(frozen=True)
class RejectRow:
    """How many inputs one source refused for one reason, with one of them as an example."""

    source: str
    reason: str
    count: int
    example_key: str
    example_detail: str


@dataclass(frozen=True)
class Curve:
    """The losses of one training stage; every series has one value per step, nan where none was logged."""

    stage: str
    steps: list[int]
    series: dict[str, list[float]]

    def __post_init__(self) -> None:
        for name, values in self.series.items():
            if len(values) != len(self.steps):
                raise ValueError(f"{self.stage}: {name} has {len(values)} values for {len(self.steps)} steps")


@dataclass(frozen=True)
class ResultRow:
    """One metric of one system; a split that held nothing out is a row with n = 0 and value nan."""

    system: str
    task: str
    split: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    higher_is_better: bool = True


@dataclass(frozen=True)
class MapPoint:
    """A song on the map; the scale of x and y does not matter."""

    track_id: str
    title: str
    artist: str
    genre: str
    x: float
    y: float


@dataclass(frozen=True)
class Hit:
    """A song that answers a query."""

    track_id: str
    title: str
    artist: str
    genre: str
    score: float


@dataclass(frozen=True)
class QueryResult:
    """A query with its top songs, best first; `track_id` is the song that a song query asks about."""

    kind: Literal["text", "song"]
    query: str
    hits: list[Hit]
    track_id: str | None = None


@dataclass(frozen=True)
class LineageRow:
    """An artifact that this run made or read."""

    kind: str
    key: str
    step_version: int
    created: datetime
    seconds: float | None
