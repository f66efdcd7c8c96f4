"""MagnaTagATune: clips, their tags by column, and the songs that they belong to."""

import pytest

from htcl.datasets.prepare import prepare
from htcl.errors import HTCLError

HEADER = "clip_id\ttrack_number\ttitle\tartist\talbum\turl\tsegmentStart\tsegmentEnd\toriginal_url\tmp3_path\n"
FILES = {
    "clip_info_final.csv": HEADER
    + '"2"\t"1"\t"BWV54 - I Aria"\t"ABC"\t"Cantatas"\t"u"\t"30"\t"59"\t"o"\t"f/abc-01-30-59.mp3"\n'
    + '"6"\t"1"\t"BWV54 - I Aria"\t"ABC"\t"Cantatas"\t"u"\t"146"\t"175"\t"o"\t"c/abc-01-146-175.mp3"\n'
    + '"7"\t"1"\t\t\t\t"u"\t\t\t"o"\t"0/x.mp3"\n'
    + '"8"\t"2"\t"No file"\t"ABC"\t"Cantatas"\t"u"\t"0"\t"29"\t"o"\t""\n'
    + '"9"\t"2"\n',
    "annotations_final.csv": '"clip_id"\t"no voice"\t"opera"\t"mp3_path"\n'
    '"2"\t"0"\t"1"\t"f/abc-01-30-59.mp3"\n"6"\t"1"\t"1"\t"c/abc-01-146-175.mp3"\n"7"\t"1"\n',
}
AUDIO = ["f/abc-01-30-59.mp3", "c/abc-01-146-175.mp3", "0/x.mp3"]


def test_catalog(source, prepared):
    out = prepared("magnatagatune", source(FILES, AUDIO))
    first, second, third = out.tracks
    assert first.pop("split_group") == second.pop("split_group") != ""
    assert first == {
        "track_id": "2",
        "title": "BWV54 - I Aria",
        "artist": "ABC",
        "album": "Cantatas",
        "tags": ["opera"],
        "audio_path": "f/abc-01-30-59.mp3",
        "duration_s": 29,
        "fold": "f",
    }
    assert (second["tags"], second["fold"]) == (["no voice", "opera"], "c")
    assert third == {"track_id": "7", "title": "7", "audio_path": "0/x.mp3", "fold": "0"}
    assert [row[:3] for row in out.rejects] == [
        ("catalog", "annotations_final.csv:4", "malformed_row"),
        ("audio", "8", "missing_audio"),
        ("catalog", "clip_info_final.csv:6", "malformed_row"),
    ]
    assert out.rejects[1][3] == "no file is named"


@pytest.mark.parametrize("name", FILES)
def test_missing_files_and_columns(source, tmp_path, name):
    folder = source({other: text for other, text in FILES.items() if other != name}, AUDIO)
    with pytest.raises(HTCLError, match=rf"{name} is not there"):
        prepare("magnatagatune", folder, tmp_path / "out")
    source({name: "clip_id,mp3_path\n"})
    with pytest.raises(HTCLError, match=rf"{name}: column 'clip_id' is missing"):
        prepare("magnatagatune", folder, tmp_path / "out")
