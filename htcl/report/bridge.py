"""The bridge: what songs are against who likes them, every system one point with its intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from htcl.evaluation.results import Result
from htcl.report.charts import Tick, nice_ticks, position

Kind = Literal["ours", "part", "competitor"]
Box = tuple[float, float, float, float]

LETTER, LINE, GAP, POINT = 2.1, 4.2, 2.2, 1.6
"""Width of a letter, height of a line, distance of a label from its point and half a point's width, in percent of the
picture on a phone, where they are largest."""
GUTTER = 7.0
"""Room on the left for systems that have no value on the x axis, in percent."""

_FIRST_PLACED: tuple[Kind, ...] = ("ours", "competitor", "part")


@dataclass(frozen=True)
class Mark:
    """A system in percent of the picture; x_low and x_high are None where it has no value on the x axis.

    `number` is what stands beside the point: many systems lie close together, and their names would cover each other.
    """

    system: str
    number: int
    kind: Kind
    x: float
    y: float
    x_low: float | None
    x_high: float | None
    y_low: float
    y_high: float
    label_x: float
    label_y: float
    anchor: Literal["start", "end"]


@dataclass(frozen=True)
class Bridge:
    """The picture, its marks from the top down; `without_x` says that some systems stand in the gutter."""

    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    marks: list[Mark]
    without_x: bool


def bridge(
    xs: dict[str, Result], ys: dict[str, Result], kinds: dict[str, Kind], x_label: str, y_label: str
) -> Bridge | None:
    """Lay out the picture; None without any model of ours on both axes.

    Args:
        xs: what songs are, by system.
        ys: who likes them, by system; a system without it is left out.
        kinds: how each system is drawn.
        x_label: name of the x axis.
        y_label: of the y axis.
    """
    shown = [system for system in kinds if system in ys]
    if not any(kinds[system] == "ours" and system in xs for system in shown):
        return None
    x_levels, y_levels = _levels([xs[system] for system in shown if system in xs]), _levels([ys[s] for s in shown])
    places = {system: _place(xs.get(system), ys[system], x_levels, y_levels) for system in shown}
    taken: list[Box] = [(x - POINT, y - POINT, x + POINT, y + POINT) for (x, y), *_ in places.values()]
    numbers = {system: number for number, system in enumerate(sorted(shown, key=lambda each: -ys[each].value), start=1)}
    marks = []
    for system in sorted(numbers, key=lambda each: _FIRST_PLACED.index(kinds[each])):
        (x, y), across, along = places[system]
        label_x, label_y, anchor = _label(str(numbers[system]), x, y, taken)
        marks.append(Mark(system, numbers[system], kinds[system], x, y, *across, *along, label_x, label_y, anchor))
    return Bridge(
        x_label=x_label,
        y_label=y_label,
        x_ticks=[Tick(_across(level, x_levels), f"{level:.2f}") for level in x_levels],
        y_ticks=[Tick(100 - position(level, y_levels[0], y_levels[-1]), f"{level:.2f}") for level in y_levels],
        marks=sorted(marks, key=lambda mark: mark.number),
        without_x=any(system not in xs for system in shown),
    )


def _levels(results: Sequence[Result]) -> list[float]:
    return nice_ticks(min(each.low for each in results), max(each.high for each in results), about=5)


def _across(value: float, levels: Sequence[float]) -> float:
    return round(GUTTER + position(value, levels[0], levels[-1]) * (1 - GUTTER / 100), 2)


def _place(
    x: Result | None, y: Result, x_levels: Sequence[float], y_levels: Sequence[float]
) -> tuple[tuple[float, float], tuple[float | None, float | None], tuple[float, float]]:
    """(point, ends along x, ends along y)."""
    low, at, high = (100 - position(value, y_levels[0], y_levels[-1]) for value in (y.low, y.value, y.high))
    if x is None:
        return (GUTTER / 2, at), (None, None), (low, high)
    return (_across(x.value, x_levels), at), (_across(x.low, x_levels), _across(x.high, x_levels)), (low, high)


def _label(text: str, x: float, y: float, taken: list[Box]) -> tuple[float, float, Literal["start", "end"]]:
    """The nearest place beside a point, off its whiskers and inside, where a label covers nothing; else the nearest."""
    width = LETTER * len(text)
    places: list[tuple[float, float, Literal["start", "end"], Box]] = []
    for away, rise, side in product((1, 2, 3, 4), (-0.7, 0.7, -1.7, 1.7, -2.7, 2.7, -3.7, 3.7), (1, -1)):
        edge, middle = x + side * away * GAP, y + rise * LINE
        left = edge if side > 0 else edge - width
        box = (left, middle - LINE / 2, left + width, middle + LINE / 2)
        if _inside(box):
            places.append((edge, middle, "start" if side > 0 else "end", box))
    places.sort(key=lambda place: math.hypot(place[0] - x, place[1] - y))
    chosen = next((place for place in places if not any(_meet(place[3], box) for box in taken)), places[0])
    taken.append(chosen[3])
    return chosen[:3]


def _inside(box: Box) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= 100 and box[3] <= 100


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
