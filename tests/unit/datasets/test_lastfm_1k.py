"""Last.fm-1K: a log without a header, with names that make ids."""

import pytest

from htcl.datasets import tab_log
from htcl.datasets.mapping import stable_id
from htcl.datasets.prepare import prepare
from htcl.errors import HTCLError

NAME = "userid-timestamp-artid-artname-traid-traname.tsv"
HASH = stable_id('Deep "Dish', "Fuck Me Im Famous")
LINES = [
    'user_000001\t2009-05-04T23:08:57Z\tf1b1cf71\tDeep "Dish\t\tFuck Me Im Famous',
    'user_000001\t2009-05-04T13:54:10Z\ta7f7df4a\t"Oasis\ttra-1\tComposition 0919',
    "user_000002\t2009-05-05T00:00:00Z\ta7f7df4a\tOasis\ttra-1\tComposition 0919 (live)",
    "user_000002\t2009-05-05T00:00:00Z\ta7f7df4a\tOasis\ttra-2\tOne\textra",
    "user_000002\tnever\ta7f7df4a\tOasis\ttra-2\tOne",
    "",
    "user_000002\t2009-05-05T00:01:00Z\ta7f7df4a\tOasis\t\t",
    'user_000003\t2006-08-13T13:59:20Z\t\tDeep "Dish\t\tFuck Me Im Famous',
    "user_000003\t2006-08-13T14:00:00Z\t\tBeyonc\xe9\ttra-3\tHalo",
]


@pytest.mark.parametrize("block", [None, 200])
def test_events_and_the_tracks_that_they_name(source, prepared, monkeypatch, block):
    if block:
        monkeypatch.setattr(tab_log, "BLOCK_BYTES", block)
    out = prepared("lastfm-1k", source({NAME: "\n".join(LINES).encode("latin-1") + b"\n"}))
    assert sorted(map(tuple, map(dict.values, out.tracks))) == sorted(
        [
            (HASH, "Fuck Me Im Famous", 'Deep "Dish'),
            ("tra-1", "Composition 0919", '"Oasis'),
            ("tra-2", "One", "Oasis"),
            ("tra-3", "Halo", "Beyonc\ufffd"),
        ]
    )
    assert out.events == sorted(
        [
            ("user_000001", "tra-1", "2009-05-04 13:54:10", "listen"),
            ("user_000001", HASH, "2009-05-04 23:08:57", "listen"),
            ("user_000002", "tra-1", "2009-05-05 00:00:00", "listen"),
            ("user_000003", HASH, "2006-08-13 13:59:20", "listen"),
            ("user_000003", "tra-3", "2006-08-13 14:00:00", "listen"),
        ]
    )
    assert sorted((key.split(":")[1], reason) for _, key, reason, _ in out.rejects) == [
        ("4", "malformed_row"),
        ("5", "bad_ts"),
        ("6", "missing_user_id"),
        ("7", "missing_track_id"),
    ]
    assert not any("user_0" in detail for *_, detail in out.rejects)
    assert out.summary.rows == len(LINES) and out.summary.undecodable == 1


def test_an_empty_log_and_another_file(source, tmp_path):
    folder = source({"other.tsv": "x"})
    with pytest.raises(HTCLError, match=rf"{NAME} is not there"):
        prepare("lastfm-1k", folder, tmp_path / "out")
    source({NAME: ""})
    with pytest.raises(HTCLError, match=rf"{NAME} cannot be read to its end"):
        prepare("lastfm-1k", folder, tmp_path / "out")
    source({NAME: "one line\n"})
    with pytest.raises(HTCLError, match=r"not one track can be used: malformed_row 1, such as .*tsv:1 \(more or"):
        prepare("lastfm-1k", folder, tmp_path / "out")
