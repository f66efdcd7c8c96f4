"""FMA's table of two header rows onto a catalog, for each subset."""

import csv
import io

import pytest

from htcl.datasets import fma
from htcl.datasets.prepare import prepare
from htcl.errors import HTCLError

COLUMNS = [
    ("album", "date_released"), ("album", "title"), ("artist", "bio"), ("artist", "name"), ("set", "split"),
    ("set", "subset"), ("track", "duration"), ("track", "genre_top"), ("track", "genres"), ("track", "genres_all"),
    ("track", "language_code"), ("track", "tags"), ("track", "title"),
]  # fmt: skip
BIO = "Born\nin 1970, " + 150_000 * "x"


def row(number, subset, **cells):
    values = {
        "date_released": "2009-01-05 00:00:00", "name": "AWOL", "bio": BIO, "split": "training", "subset": subset,
        "duration": "168", "genre_top": "Hip-Hop", "genres": "[21]", "genres_all": "[21, 3]", "language_code": "en",
        "tags": "['lo-fi', \"it's\"]", "track": f"Song {number}", "album": "A Way",
    }  # fmt: skip
    values |= cells
    keys = {("album", "title"): "album", ("track", "title"): "track"}
    return [number, *(values[keys.get(column, column[1])] for column in COLUMNS)]


def tracks(*rows):
    text = io.StringIO()
    head = [["", *(a for a, _ in COLUMNS)], ["", *(b for _, b in COLUMNS)], ["track_id", *("" for _ in COLUMNS)]]
    csv.writer(text).writerows([*head, *rows])
    return text.getvalue()


GENRES = "genre_id,#tracks,parent,title,top_level\n21,12693,0,Hip-Hop,21\n3,1752,0,Blues,3\n"
FILES = {
    "fma_metadata/tracks.csv": tracks(
        row(2, "small"),
        row(3, "medium", genre_top="", genres="[3]", tags="[]", language_code="", date_released="", split="test"),
        row(5, "large"),
        row(10, "small", genres_all="[21"),
        row(99134, "small"),
        row(140, "small"),
        ["141", "too", "few"],
        row(142, ""),
        row(143, "small", genres="[99999]"),
        row("no id", "small"),
    ),
    "fma_metadata/genres.csv": GENRES,
}


def audio(subset):
    return [
        f"fma_{subset}/{name}.mp3" for name in ("000/000002", "000/000003", "000/000005", "000/000010", "099/099134")
    ]


def test_small(source, prepared):
    out = prepared("fma", source(FILES, audio("small")))
    assert out.tracks == [
        {
            "track_id": "2",
            "title": "Song 2",
            "artist": "AWOL",
            "album": "A Way",
            "genre": "Hip-Hop",
            "language": "en",
            "tags": ["Blues", "lo-fi", "it's"],
            "release_date": "2009-01-05",
            "audio_path": "000/000002.mp3",
            "fma_split": "training",
        }
    ]
    assert [row[:3] for row in out.rejects] == [
        ("catalog", "10", "bad_list"),
        ("audio", "99134", "broken_audio"),
        ("audio", "140", "missing_audio"),
        ("catalog", "143", "bad_list"),
        ("catalog", "no id", "malformed_row"),
        ("catalog", "tracks.csv:10", "malformed_row"),
    ]
    assert out.summary.left_out == {"not_in_fma_small": 3} and out.summary.rows == 10


def test_medium_holds_small(source, prepared):
    out = prepared("fma", source(FILES, audio("medium")))
    assert [row["track_id"] for row in out.tracks] == ["2", "3"]
    assert out.tracks[1] == {
        "track_id": "3",
        "title": "Song 3",
        "artist": "AWOL",
        "album": "A Way",
        "genre": "Blues",
        "tags": ["Hip-Hop"],
        "audio_path": "000/000003.mp3",
        "fma_split": "test",
    }


def test_full_states_the_length_of_whole_tracks(source, prepared):
    out = prepared("fma", source(FILES, [*audio("full"), *audio("small")]), "full")
    assert [(row["track_id"], row["duration_s"]) for row in out.tracks] == [
        *((str(number), 168) for number in (2, 3, 5)),
        ("99134", 168),  # its clip alone is empty
    ]
    assert out.summary.left_out == {}


def test_which_subset_has_to_be_clear(source, tmp_path):
    folder = source(FILES)
    with pytest.raises(HTCLError, match=r"holds none of fma_small, fma_medium"):
        prepare("fma", folder, tmp_path / "out")
    source({}, [*audio("small"), *audio("large")])
    with pytest.raises(HTCLError, match=r"holds fma_small and fma_large; say which with --subset"):
        prepare("fma", folder, tmp_path / "out")
    with pytest.raises(HTCLError, match=r"fma_full is not there"):
        prepare("fma", folder, tmp_path / "out", "full")


@pytest.mark.parametrize(
    ("text", "column"), [(",track\n,title\ntrack_id,\n", "artist.name"), (",track\n,title\n2,Food\n", "track_id")]
)
def test_missing_column(source, tmp_path, text, column):
    with pytest.raises(HTCLError, match=rf"tracks.csv: column '{column}' is missing"):
        prepare("fma", source(FILES | {"fma_metadata/tracks.csv": text}, audio("small")), tmp_path / "out")


def test_reading_leaves_the_csv_module_as_it_is(source, prepared, monkeypatch):
    limit = csv.field_size_limit()
    monkeypatch.setattr(fma, "BLOCK_BYTES", 200_000)
    out = prepared("fma", source(FILES, audio("medium")))
    assert len(out.tracks) == 2 and csv.field_size_limit() == limit < len(BIO)


def test_a_row_longer_than_a_block_is_told(source, tmp_path, monkeypatch):
    monkeypatch.setattr(fma, "BLOCK_BYTES", 1000)
    with pytest.raises(HTCLError, match=r"tracks.csv cannot be read to its end: "):
        prepare("fma", source(FILES, audio("small")), tmp_path / "out")
