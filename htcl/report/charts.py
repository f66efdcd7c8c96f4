"""The geometry of the charts. Positions are percentages of the plot, so that one page fits any screen."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

from htcl.report.data import Curve
from htcl.report.formats import grouped

MAX_VERTICES = 300  # more than a line on a screen can show


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A series as the `d` of an SVG path, and its last finite value."""

    name: str
    path: str
    last: float


@dataclass(frozen=True)
class LineChart:
    """A line chart; `gaps` counts the values that were not finite."""

    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]
    gaps: int


@dataclass(frozen=True)
class Whisker:
    """A value and the ends of its interval."""

    at: float
    low: float
    high: float


def position(value: float, low: float, high: float) -> float:
    """Where a value lies between low and high, in percent; the middle if they are equal."""
    return 50.0 if high == low else round(100 * (value - low) / (high - low), 2)


def nice_ticks(low: float, high: float, about: int = 5, smallest: float = 0.0) -> list[float]:
    """Round values (steps of 1, 2 or 5 times a power of ten) of which the outer ones enclose [low, high]."""
    if high == low:
        pad = max(abs(low) / 2, smallest, 1e-3)
        low, high = low - pad, high + pad
    rough = max((high - low) / about, smallest)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def line_chart(curve: Curve) -> LineChart | None:
    """The losses of a stage against its steps; None where there is nothing to draw."""
    values = [value for series in curve.series.values() for value in series]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    levels = nice_ticks(min(finite), max(finite), about=4)
    first, last = min(curve.steps), max(curve.steps)
    marks = [mark for mark in nice_ticks(first, last, about=4, smallest=1) if first <= mark <= last]
    if first == last:
        marks = [first]
    y_low, y_high = levels[0], levels[-1]
    lines = []
    for name, series in curve.series.items():
        dots = [
            (position(x, first, last), 100 - position(y, y_low, y_high) if math.isfinite(y) else math.nan)
            for x, y in _thinned(curve.steps, series)
        ]
        lines.append(Line(name, path(dots), _last_finite(series)))
    decimals = max(0, -math.floor(math.log10(levels[1] - levels[0]) + 1e-9))
    return LineChart(
        x_ticks=[Tick(position(mark, first, last), grouped(round(mark))) for mark in marks],
        y_ticks=[Tick(100 - position(y, y_low, y_high), _level(y, decimals)) for y in levels],
        lines=lines,
        gaps=len(values) - len(finite),
    )


def curve_image(curve: Curve) -> str:
    """The losses of a stage as a small picture: an SVG in a data URI, for where no page is drawn around it."""
    chart = line_chart(curve)
    if chart is None:
        return ""
    width, height, left = 640, 240, 48
    shapes = []
    for tick in chart.y_ticks:
        y = height * tick.at / 100
        shapes.append(f'<path d="M{left} {y:.1f}H{left + width}" stroke="#8884"/>')
        shapes.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick.label}</text>')
    for tick in chart.x_ticks:
        shapes.append(
            f'<text x="{left + width * tick.at / 100:.1f}" y="{height + 18}" text-anchor="middle">{tick.label}</text>'
        )
    for number, line in enumerate(chart.lines):
        color = _COLORS[number % len(_COLORS)]
        scale = f"translate({left} 0) scale({width / 100} {height / 100})"
        shapes.append(
            f'<path d="{line.path}" transform="{scale}" fill="none" stroke="{color}" stroke-width="2" '
            'stroke-linecap="round" vector-effect="non-scaling-stroke"/>'
        )
        shapes.append(
            f'<text x="{left + width}" y="{16 + 16 * number}" text-anchor="end" fill="{color}">{line.name}</text>'
        )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -10 {width + left + 10} {height + 40}" '
        f'font-family="sans-serif" font-size="12" fill="#888">{"".join(shapes)}</svg>'
    )
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


_COLORS = ("#4477aa", "#ee6677", "#228833", "#aa3377")


def path(dots: Sequence[tuple[float, float]]) -> str:
    """An SVG path, broken where y is nan; `h0` lets a round line cap show a lone dot."""
    parts: list[str] = []
    pen_down = False
    for x, y in dots:
        if math.isnan(y):
            pen_down = False
        else:
            parts.append(f"{'L' if pen_down else 'M'}{x:g} {y:.5g}" + ("" if pen_down else "h0"))
            pen_down = True
    return "".join(parts)


def whiskers(intervals: Sequence[tuple[float, float | None, float | None]]) -> list[Whisker | None]:
    """(value, low, high) triples on one common scale; None for a triple that is not complete and finite."""
    complete = [
        (value, low, high)
        if low is not None and high is not None and all(map(math.isfinite, (value, low, high)))
        else None
        for value, low, high in intervals
    ]
    ends = [end for triple in complete if triple for end in triple]
    if not ends:
        return [None] * len(complete)
    margin = 0.06 * (max(ends) - min(ends))  # keeps the outermost dot inside its picture
    scale = (min(ends) - margin, max(ends) + margin)
    return [
        triple and Whisker(position(triple[0], *scale), position(triple[1], *scale), position(triple[2], *scale))
        for triple in complete
    ]


def bars(counts: Sequence[int]) -> list[float]:
    """Each count in percent of the largest."""
    largest = max(counts, default=0)
    return [100 * count / largest if largest else 0.0 for count in counts]


def _thinned(steps: Sequence[int], values: Sequence[float]) -> list[tuple[float, float]]:
    """Means over equal runs of steps, few enough to draw."""
    run = math.ceil(len(steps) / MAX_VERTICES)
    return [
        (_mean(steps[start : start + run]), _mean(values[start : start + run])) for start in range(0, len(steps), run)
    ]


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _last_finite(values: Sequence[float]) -> float:
    return next((value for value in reversed(values) if math.isfinite(value)), math.nan)


def _level(value: float, decimals: int) -> str:
    return f"{value:.3g}" if abs(value) >= 1e6 or decimals > 6 else f"{value:.{decimals}f}"
