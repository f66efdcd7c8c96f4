"""The picture of both sides: where points and labels lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcl.evaluation.results import Result
from htcl.report.bridge import GUTTER, LETTER, LINE, bridge

UNIT = st.floats(0.01, 0.99)


def result(system, value, half=0.02):
    return Result(system, "t", "s", "m", value, value - half, value + half, 9)


def drawn(xs, ys, **kinds):
    values = ({system: result(system, value) for system, value in side.items()} for side in (xs, ys))
    return bridge(*values, {"stage1": "ours", **kinds}, "is", "liked")


def box(mark):
    """Around a label: left, top, right, bottom."""
    width = LETTER * len(str(mark.number))
    left = mark.label_x - (width if mark.anchor == "end" else 0)
    return left, mark.label_y - LINE / 2, left + width, mark.label_y + LINE / 2


def assert_inside_and_apart(found):
    boxes = [box(mark) for mark in found.marks]
    for n, one in enumerate(boxes):
        assert min(one) >= 0 and max(one) <= 100
        for other in boxes[n + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_better_is_further_right_and_further_up():
    found = drawn({"stage1": 0.3, "b": 0.4}, {"stage1": 0.5, "b": 0.2}, b="part")
    one, other = found.marks
    assert (one.system, other.system) == ("stage1", "b")
    assert one.x < other.x and one.y < other.y
    for mark in found.marks:
        assert mark.x_low < mark.x < mark.x_high and mark.y_high < mark.y < mark.y_low


def test_a_system_without_the_first_axis_stands_at_the_left_edge():
    found = drawn({"stage1": 0.3}, {"stage1": 0.5, "b": 0.2}, b="competitor")
    assert found.without_x
    (mark,) = [mark for mark in found.marks if mark.system == "b"]
    assert mark.x == GUTTER / 2 and mark.x_low is None
    assert not drawn({"stage1": 0.3}, {"stage1": 0.5}).without_x


def test_without_a_model_of_ours_there_is_no_picture():
    assert drawn({}, {"stage1": 0.5}) is None
    assert drawn({"b": 0.1}, {"b": 0.1}, b="competitor") is None


@given(st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=8))
def test_numbers_stay_inside_and_apart(points):
    names = ["stage1", *(f"system {n}" for n in range(len(points) - 1))]
    xs, ys = ({name: point[axis] for name, point in zip(names, points, strict=True)} for axis in (0, 1))
    found = drawn(xs, ys, **dict.fromkeys(names[1:], "competitor"))
    assert len(found.marks) == len(points)
    for mark in found.marks:
        assert 0 <= mark.x <= 100 and 0 <= mark.y <= 100
    assert_inside_and_apart(found)


def test_numbers_of_points_side_by_side_do_not_cover_each_other():
    names = ["stage1", "a", "b", "c"]
    found = drawn(
        {name: 0.30 + 0.002 * n for n, name in enumerate(names)},
        {name: 0.50 + 0.002 * n for n, name in enumerate(names)},
        a="competitor",
        b="competitor",
        c="part",
    )
    assert_inside_and_apart(found)


@pytest.mark.parametrize("corner", [(0.02, 0.02), (0.02, 0.98), (0.98, 0.02), (0.98, 0.98)])
def test_numbers_stay_inside_where_there_is_no_room(corner):
    names = [f"system {n}" for n in range(60)]
    xs, ys = ({"stage1": 1 - value, **dict.fromkeys(names, value)} for value in corner)
    for mark in drawn(xs, ys, **dict.fromkeys(names, "part")).marks:
        assert min(box(mark)) >= 0 and max(box(mark)) <= 100


def test_systems_are_numbered_from_the_top_down():
    found = drawn({"stage1": 0.3, "b": 0.4}, {"stage1": 0.5, "b": 0.7, "c": 0.6}, b="part", c="competitor")
    assert [(mark.number, mark.system) for mark in found.marks] == [(1, "b"), (2, "c"), (3, "stage1")]


def test_ticks_name_their_values():
    found = drawn({"stage1": 0.3}, {"stage1": 0.5})
    low, high = float(found.x_ticks[0].label), float(found.x_ticks[-1].label)
    for tick in found.x_ticks:
        share = (float(tick.label) - low) / (high - low)
        assert tick.at == pytest.approx(GUTTER + (100 - GUTTER) * share, abs=0.1)
    assert [tick.at for tick in found.y_ticks] == sorted((tick.at for tick in found.y_ticks), reverse=True)
