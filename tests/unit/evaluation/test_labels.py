"""Fields of the catalog as classes."""

import pytest

from htcl.card_config import LabelConfig
from htcl.evaluation.labels import read_labels

SONGS = [
    {"genre": "Rock", "language": "en", "tags": ["meter:3/4", "key:Eb minor", "Fiddle"], "release_date": "1987-02-01"},
    {"genre": "rock", "language": None, "tags": ["meter:3/4", "violin", "piano"], "release_date": "1989"},
    {"genre": "Folk", "language": "en", "tags": ["meter:4/4", "key:C major"], "release_date": "soon"},
    {"genre": None, "language": "de", "tags": ["meter:4/4", "meter:3/4", "piano"], "release_date": "2003-01-01"},
    {"genre": "folk", "language": "de", "tags": [], "release_date": None},
]
VIOLIN = {"violin": ["violin", "fiddle"], "piano": ["piano"]}


def found(**config):
    labels = read_labels("x", LabelConfig(**{"min_songs": 1, **config}), SONGS)
    return [
        (int(row), [name for name, yes in zip(labels.classes, member, strict=True) if yes])
        for row, member in zip(labels.rows, labels.member, strict=True)
    ]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"column": "genre"}, [(0, ["rock"]), (1, ["rock"]), (2, ["folk"]), (4, ["folk"])]),
        ({"column": "tags", "prefix": "meter:"}, [(0, ["3/4"]), (1, ["3/4"]), (2, ["4/4"])]),
        ({"column": "tags", "classes": VIOLIN}, [(0, ["violin"]), (3, ["piano"])]),
        ({"column": "tags", "prefix": "key:", "kind": "key"}, [(0, ["Eb minor"]), (2, ["C major"])]),
        ({"column": "release_date"}, [(0, ["1980s"]), (1, ["1980s"]), (3, ["2000s"])]),
        ({"column": "language", "min_songs": 2}, [(0, ["en"]), (2, ["en"]), (3, ["de"]), (4, ["de"])]),
    ],
)
def test_classes_of_a_field(config, expected):
    assert found(**config) == expected


def test_a_field_with_several_labels_keeps_songs_that_have_others():
    rows = found(column="tags", kind="multiple", min_songs=2)
    assert [row for row, _ in rows] == [0, 1, 2, 3]
    assert dict(rows)[1] == ["meter:3/4", "piano"]


def test_too_few_songs_make_no_field():
    assert read_labels("genre", LabelConfig(column="genre", min_songs=3), SONGS) is None
    assert read_labels("genre", LabelConfig(column="genre", classes={"folk": ["folk"]}, min_songs=1), SONGS) is None
