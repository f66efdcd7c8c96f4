"""LFM-2b: columns by name; quotes are part of the names."""

import pytest

from htcl.datasets.prepare import prepare
from htcl.errors import HTCLError

FILES = {
    "listening-events.tsv.bz2": "timestamp\tuser_id\talbum_id\ttrack_id\n"
    "2013-01-27 21:42:38\t31435\t1\t53\n2013-01-27 21:43:00\t31435\t1\t54\n2013-01-27 21:43:00\t\t1\t54\n",
    "tracks.tsv.bz2": 'track_id\tartist_name\ttrack_name\n53\tMuse\t"Uprising"\n54\tMuse\t\nbroken\n',
}


def test_log_and_tracks(source, prepared):
    out = prepared("lfm-2b", source(FILES))
    assert out.tracks == [
        {"track_id": "53", "title": '"Uprising"', "artist": "Muse"},
        {"track_id": "54", "title": "54", "artist": "Muse"},
    ]
    assert [event[:3] for event in out.events] == [
        ("31435", "53", "2013-01-27 21:42:38"),
        ("31435", "54", "2013-01-27 21:43:00"),
    ]
    assert [row[1:3] for row in out.rejects] == [
        ("tracks.tsv.bz2:4", "malformed_row"),
        ("listening-events.tsv.bz2:4", "missing_user_id"),
    ]


def test_another_header_is_refused(source, tmp_path):
    files = FILES | {"listening-events.tsv.bz2": "user\ttrack_id\ttimestamp\n"}
    with pytest.raises(HTCLError, match=r"listening-events.tsv.bz2: column 'user_id' is missing \(it has user, track"):
        prepare("lfm-2b", source(files), tmp_path / "out")


def test_a_log_of_nothing_but_its_header(source, tmp_path):
    files = FILES | {"listening-events.tsv.bz2": "user_id\ttrack_id\ttimestamp\n"}
    with pytest.raises(HTCLError, match=r"LFM-2b: not one event can be used: malformed_row 1, such as tracks"):
        prepare("lfm-2b", source(files), tmp_path / "out")
