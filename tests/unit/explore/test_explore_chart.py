"""The map that is worked out in the background."""

import base64

import numpy as np

from htcl.explore import chart as chart_module
from htcl.explore.chart import Chart
from htcl.web.map import FULL, Genre, legend

from .conftest import TASTE


def numbers(text):
    return np.frombuffer(base64.b64decode(text), "<u2")


def test_the_map_is_told_once_it_is_worked_out(songs):
    chart = Chart(songs, TASTE, {"Rock": 0, "Samba": 1})
    assert chart.told() is None
    chart.work_out()
    told = chart.told()
    assert [song[0] for song in told["songs"]] == songs.tracks and told["of"] == 8
    assert told["colours"] == [1, 1, 0, 0, 7, 0, 1, 7]
    for axis in ("x", "y"):
        assert numbers(told[axis]).min() == 0 and numbers(told[axis]).max() == FULL
    assert [(entry["name"], entry["count"]) for entry in told["legend"]] == [
        ("Rock", 3),
        ("Samba", 3),
        ("other or none", 2),
    ]


def test_a_sample_of_many_songs_knows_which_it_holds(songs, monkeypatch):
    monkeypatch.setattr(chart_module, "MAX_POINTS", 3)
    chart = Chart(songs, TASTE, {})
    assert len(chart.rows) == 3 and (np.diff(chart.rows) > 0).all()
    assert [chart.place(int(row)) for row in chart.rows] == [0, 1, 2]
    missing = [row for row in range(8) if row not in chart.rows]
    assert {chart.place(row) for row in missing} == {None}
    chart.work_out()
    assert len(chart.told()["songs"]) == 3 and chart.told()["of"] == 8


def test_songs_that_all_lie_in_one_place_are_drawn_in_the_middle(songs):
    chart = Chart(songs, np.ones((8, 2), np.float32), {})
    chart.work_out()
    assert set(numbers(chart.told()["x"])) == {round(FULL / 2)}


def test_a_map_that_cannot_be_drawn_says_so(songs, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("no room")

    monkeypatch.setattr(chart_module, "project_2d", fail)
    chart = Chart(songs, TASTE, {})
    chart.work_out()
    assert "could not be drawn" in chart.told()["failure"]


def test_the_legend_leaves_out_colours_that_nobody_has():
    assert legend(["b", "b", ""], {"a": 0, "b": 2}) == [Genre("b", 2, 2), Genre("other or none", 1, 7)]
