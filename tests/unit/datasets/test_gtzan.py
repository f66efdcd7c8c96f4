"""GTZAN: only the fault-filtered lists are mapped."""

import pytest

from htcl.datasets.prepare import prepare
from htcl.errors import HTCLError

LISTS = {
    "train_filtered.txt": "blues/blues.00029.wav\njazz/jazz.00054.wav\n\n",
    "valid_filtered.txt": "blues/blues.00030.wav\nblues.00031.wav\n",
    "test_filtered.txt": "hiphop/hiphop.00000.wav\nblues/blues.00029.wav\n",
}


@pytest.mark.parametrize(
    ("genres", "splits", "end"), [("genres", "", "wav"), ("genres_original", "gtzan/", "wav"), ("genres", "", "au")]
)
def test_catalog(source, prepared, genres, splits, end):
    names = ["blues/blues.00029", "blues/blues.00030", "hiphop/hiphop.00000", "blues/blues.00099"]
    files = {splits + name: text for name, text in LISTS.items()}
    out = prepared("gtzan", source(files, [f"{genres}/{name}.{end}" for name in names]))
    assert [tuple(row.values()) for row in out.tracks] == [
        ("blues.00029", "blues.00029", "blues", f"blues/blues.00029.{end}", "train"),
        ("blues.00030", "blues.00030", "blues", f"blues/blues.00030.{end}", "validation"),
        ("hiphop.00000", "hiphop.00000", "hiphop", f"hiphop/hiphop.00000.{end}", "test"),
    ]
    assert list(out.tracks[0]) == ["track_id", "title", "genre", "audio_path", "fault_filtered_split"]
    assert [row[:3] for row in out.rejects] == [
        ("audio", "jazz.00054", "missing_audio"),
        ("catalog", "valid_filtered.txt:2", "malformed_row"),
        ("catalog", "blues.00029", "duplicate_track_id"),
    ]
    assert out.summary.left_out == {"not_in_a_fault_filtered_list": 1}


def test_without_the_lists_it_says_where_they_come_from(source, tmp_path):
    folder = source({}, ["genres/blues/blues.00029.wav"])
    with pytest.raises(HTCLError, match=r"train_filtered.txt is not there; .*Kereliuk, Sturm and Larsen 2015"):
        prepare("gtzan", folder, tmp_path / "out")


def test_without_audio_folder(source, tmp_path):
    with pytest.raises(HTCLError, match=r"source/genres is not there, which should be a folder"):
        prepare("gtzan", source(LISTS), tmp_path / "out")
