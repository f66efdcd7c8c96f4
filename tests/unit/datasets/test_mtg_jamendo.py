"""MTG-Jamendo's lines of variable length onto a catalog."""

import pytest

from htcl.datasets.prepare import prepare
from htcl.errors import HTCLError

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
TABLE = (
    HEADER + "track_0003516\tartist_000012\talbum_000031\t16/3516.mp3\t210.5\tgenre---rock\tinstrument---piano\t"
    "genre---pop\tmood/theme---happy\n"
    "track_1009600\tartist_000013\talbum_000032\t00/1009600.mp3\tlong\tmood/theme---calm\n"
    "track_0000003\tartist_000013\talbum_000032\t03/3.mp3\t60\tgenre---jazz\n"
    "track_0000004\tartist\n"
)
AUDIO = ["16/3516.mp3", "00/1009600.low.mp3"]


@pytest.mark.parametrize(("table", "root"), [("data/", ""), ("", "audio/")])
def test_catalog(source, prepared, table, root):
    out = prepared("mtg-jamendo", source({f"{table}autotagging.tsv": TABLE}, [root + path for path in AUDIO]))
    assert out.tracks == [
        {
            "track_id": "track_0003516",
            "title": "track_0003516",
            "artist": "artist_000012",
            "album": "album_000031",
            "genre": "rock",
            "tags": ["pop", "piano", "happy"],
            "audio_path": "16/3516.mp3",
            "duration_s": 210.5,
        },
        {
            "track_id": "track_1009600",
            "title": "track_1009600",
            "artist": "artist_000013",
            "album": "album_000032",
            "tags": ["calm"],
            "audio_path": "00/1009600.low.mp3",
        },
    ]
    assert [row[:3] for row in out.rejects] == [
        ("audio", "track_0000003", "missing_audio"),
        ("catalog", "autotagging.tsv:5", "malformed_row"),
    ]
    assert out.summary.untitled == 2 and out.summary.config is None


def test_subsets_are_files_of_their_own(source, prepared):
    files = {"data/autotagging.tsv": TABLE, "data/autotagging_moodtheme.tsv": "\n".join(TABLE.split("\n")[:2]) + "\n"}
    assert len(prepared("mtg-jamendo", source(files, AUDIO), "moodtheme").tracks) == 1


def test_another_table_is_refused(source, tmp_path):
    with pytest.raises(HTCLError, match=r"autotagging.tsv: column 'ARTIST_ID' is missing"):
        prepare("mtg-jamendo", source({"autotagging.tsv": "TRACK_ID\tNAME\n"}, AUDIO), tmp_path / "out")
    with pytest.raises(HTCLError, match=r"no subset 'mood'; it has all, genre"):
        prepare("mtg-jamendo", source({}, AUDIO), tmp_path / "out", "mood")
