import math
from datetime import UTC, datetime

import pytest

from htcl.report import formats
from htcl.report.catalog_map import drawn
from htcl.report.data import MapPoint, ResultRow
from htcl.report.results import Block, blocks
from htcl.web.map import FULL, OTHER, genre_colours, legend


def row(system: str, metric: str, value: float, **changes: object) -> ResultRow:
    fields = {"task": "text_to_audio", "split": "cold", "low": None, "high": None, "n": 10} | changes
    return ResultRow(system=system, metric=metric, value=value, **fields)  # type: ignore[arg-type]


def best(block: Block) -> set[tuple[str, str]]:
    cells = [cell for line in block.lines.values() for cell in line if cell and cell.best]
    return {(cell.row.system, cell.row.metric) for cell in cells}


def test_the_best_of_each_column_is_marked() -> None:
    rows = [row("a", "map", 0.1), row("b", "map", 0.3), row("a", "median_rank", 4.0, higher_is_better=False)]
    rows.append(row("b", "median_rank", 9.0, higher_is_better=False))
    (block,) = blocks(rows)
    assert best(block) == {("b", "map"), ("a", "median_rank")}
    assert block.n == 10


def test_no_mark_without_a_contest() -> None:
    (block,) = blocks([row("a", "map", 0.1), row("b", "map", math.nan)])
    assert best(block) == set()


def test_missing_cells_and_mixed_sizes() -> None:
    (block,) = blocks([row("a", "map", 0.1), row("b", "mrr", 0.2, n=7)])
    assert block.lines["a"][1] is None and block.lines["b"][0] is None
    assert block.n is None


def test_blocks_keep_their_order() -> None:
    rows = [row("a", "map", 0.1, split="warm"), row("a", "map", 0.1), row("b", "map", 0.1, split="warm")]
    assert [(block.split, len(block.lines)) for block in blocks(rows)] == [("warm", 2), ("cold", 1)]


def test_large_genres_get_colours_and_the_rest_share_one() -> None:
    genres = [f"g{i}" for i in range(10) for _ in range(20 - i)] + [""] * 50
    colours = genre_colours(genres)
    assert colours == {f"g{i}": i for i in range(OTHER)}
    entries = legend(genres, colours)
    assert [entry.name for entry in entries] == [*(f"g{i}" for i in range(7)), "other or none"]
    assert sum(entry.count for entry in entries) == len(genres)


def test_points_fill_the_picture() -> None:
    found = drawn([MapPoint("a", "Ay", "Ann", "folk", -5, 2), MapPoint("b", "Be", "", "", 5, 8)], {"folk": 3})
    assert (found["x"], found["y"], found["colours"]) == ([0, FULL], [0, FULL], [3, OTHER])
    assert found["songs"] == [["a", "Ay", "Ann · folk"], ["b", "Be", ""]]
    assert drawn([MapPoint("a", "", "", "", 3, 3)], {})["x"] == [round(FULL / 2)]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formats.grouped(1234567), "1\u202f234\u202f567"),
        (formats.grouped("kept"), "kept"),
        (formats.measure(0.31249), "0.312"),
        (formats.measure(-1234.56), "−1\u202f234.6"),
        (formats.measure(math.nan), "–"),
        (formats.interval(0.1, 0.2), "0.100–0.200"),
        (formats.interval(None, 0.2), ""),
        (formats.share(100), "100\u202f%"),
        (formats.share(0.01), "<0.1\u202f%"),
        (formats.share(99.98), ">99.9\u202f%"),
        (formats.share(23.33), "23.3\u202f%"),
        (formats.duration(3.21), "3.2\u202fs"),
        (formats.duration(59.7), "1\u202fmin 00\u202fs"),
        (formats.duration(7500), "2\u202fh 05\u202fmin"),
        (formats.duration(None), "–"),
        (formats.words("recall_at_10"), "recall@10"),
        (formats.moment(datetime(2025, 3, 9, 4, 7, tzinfo=UTC)), "9 March 2025, 04:07 UTC"),
        (formats.moment(datetime(2025, 3, 9, 4, 7)), "9 March 2025, 04:07"),
    ],
)
def test_formats(written: str, expected: str) -> None:
    assert written == expected
