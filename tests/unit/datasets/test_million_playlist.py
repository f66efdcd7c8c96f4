"""The Million Playlist Dataset: a playlist is user and session."""

import json

import pytest

from htcl.datasets.prepare import prepare
from htcl.errors import HTCLError


def track(uri, **values):
    return {
        "pos": 0, "artist_name": "Missy", "track_uri": uri, "artist_uri": "a", "track_name": "Lose", "album_uri": "b",
        "duration_ms": 226863, "album_name": "Cookbook",
    } | values  # fmt: skip


def playlist(pid, *tracks, **values):
    return {"name": "x", "collaborative": "false", "pid": pid, "modified_at": 1493424000, "tracks": tracks} | values


SLICES = {
    "data/mpd.slice.0-999.json": [
        playlist(0, track("spotify:track:a"), track("spotify:track:b", track_name="\ud83d", duration_ms=None)),
        playlist(1, track("spotify:track:a", track_name="Another"), track(None), "track", modified_at=1493510400),
        playlist(2, track("spotify:track:z"), modified_at="yesterday"),
        "playlist",
    ],
    "data/mpd.slice.1000-1999.json": [playlist(1000, track("spotify:track:a")), playlist(1001, modified_at=7)],
}


def files():
    return {name: json.dumps({"info": {}, "playlists": playlists}) for name, playlists in SLICES.items()}


def test_playlists(source, prepared):
    out = prepared("million-playlist", source(files()))
    a = {"track_id": "spotify:track:a", "title": "Lose", "artist": "Missy", "album": "Cookbook"}
    assert [row.pop("duration_s", None) for row in out.tracks] == [pytest.approx(226.863), None]
    assert out.tracks == [a, a | {"track_id": "spotify:track:b", "title": "?"}]
    assert out.events == [
        ("0", "spotify:track:a", "2017-04-29 00:00:00", "playlist", "0"),
        ("0", "spotify:track:b", "2017-04-29 00:00:00", "playlist", "0"),
        ("1", "spotify:track:a", "2017-04-30 00:00:00", "playlist", "1"),
        ("1000", "spotify:track:a", "2017-04-29 00:00:00", "playlist", "1000"),
    ]
    assert sorted(row[1:3] for row in out.rejects) == [
        ("mpd.slice.0-999.json:2", "missing_track_id"),
        ("mpd.slice.0-999.json:2", "missing_track_id"),
        ("mpd.slice.0-999.json:3", "malformed_playlist"),
        ("mpd.slice.0-999.json:4", "malformed_playlist"),
    ]


def test_what_is_no_slice_is_named(source, tmp_path):
    folder = source({"readme.md": "x"})
    with pytest.raises(HTCLError, match=r"source/data holds no mpd.slice"):
        prepare("million-playlist", folder, tmp_path / "out")
    source(files() | {"data/mpd.slice.2000-2999.json": '{"playlists": ['})
    with pytest.raises(HTCLError, match=r"2000-2999.json is no slice of playlists: .*; download it again"):
        prepare("million-playlist", folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
