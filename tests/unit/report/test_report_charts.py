import math

import pytest

from htcl.report.charts import MAX_VERTICES, bars, line_chart, nice_ticks, path, position, whiskers
from htcl.report.data import Curve


def test_positions_are_percentages() -> None:
    assert position(5, 0, 20) == 25
    assert position(3, 3, 3) == 50


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.13, 0.58, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), (-3, 3, [-4, -2, 0, 2, 4])],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 2.5, -7.0, 1e-9, 1e9])
def test_ticks_of_a_single_value_enclose_it(value: float) -> None:
    ticks = nice_ticks(value, value)
    assert ticks[0] < value < ticks[-1]


def test_a_line_chart_runs_from_corner_to_corner() -> None:
    chart = line_chart(Curve("stage_1", [0, 50, 100], {"total": [4.0, 2.0, 0.0]}))
    assert chart
    assert chart.lines[0].path == "M0 0h0L50 50L100 100"
    assert chart.lines[0].last == 0
    assert [(tick.at, tick.label) for tick in chart.y_ticks] == [
        (100, "0"),
        (75, "1"),
        (50, "2"),
        (25, "3"),
        (0, "4"),
    ]
    assert [tick.label for tick in chart.x_ticks] == ["0", "50", "100"]


def test_steps_are_whole() -> None:
    chart = line_chart(Curve("stage_1", [0, 1], {"total": [1.0, 0.5]}))
    assert chart and [tick.label for tick in chart.x_ticks] == ["0", "1"]


def test_one_step_is_drawn_in_the_middle() -> None:
    chart = line_chart(Curve("stage_1", [7], {"total": [1.0]}))
    assert chart and chart.lines[0].path == "M50 50h0"
    assert [(tick.at, tick.label) for tick in chart.x_ticks] == [(50, "7")]


@pytest.mark.parametrize("series", [{}, {"total": [math.nan, math.inf]}])
def test_nothing_finite_is_no_chart(series: dict[str, list[float]]) -> None:
    assert line_chart(Curve("stage_1", [0, 1], series)) is None


def test_values_that_are_not_finite_break_the_line_and_are_counted() -> None:
    chart = line_chart(Curve("stage_1", [0, 1, 2, 3], {"total": [1.0, math.inf, 1.0, math.nan]}))
    assert chart and chart.gaps == 2
    assert chart.lines[0].path.count("M") == 2
    assert chart.lines[0].last == 1.0


def test_long_runs_are_thinned() -> None:
    steps = list(range(100_000))
    chart = line_chart(Curve("stage_1", steps, {"total": [1 / (step + 1) for step in steps]}))
    assert chart and chart.lines[0].path.count("L") < MAX_VERTICES


def test_a_path_lifts_the_pen_over_nan() -> None:
    assert path([(0, 1), (1, math.nan), (2, 3), (3, 4)]) == "M0 1h0M2 3h0L3 4"


def test_whiskers_share_a_scale_and_skip_what_is_incomplete() -> None:
    first, missing, nan, last = whiskers([(1, 0, 2), (1, None, 2), (math.nan, 0, 1), (9, 8, 10)])
    assert missing is None and nan is None
    assert first and last
    assert first.low == pytest.approx(100 - last.high)
    assert 0 < first.low < first.at < first.high < last.low < last.at < last.high < 100


def test_whiskers_without_an_interval() -> None:
    assert whiskers([(0.5, None, None)]) == [None]
    assert whiskers([]) == []


def test_bars_are_relative_to_the_largest() -> None:
    assert bars([200, 50, 0]) == [100, 25, 0]
    assert bars([0, 0]) == [0, 0]
    assert bars([]) == []
