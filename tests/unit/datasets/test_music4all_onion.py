"""Music4All-Onion: its log and tags over the catalog of Music4All."""

import pytest

from htcl.datasets.prepare import prepare
from htcl.errors import HTCLError

from .test_music4all import AUDIO, FILES, A, B, C

LOG = "userid_trackid_timestamp.tsv.bz2"
ONION = {
    LOG: "user_id\ttrack_id\ttimestamp\n"
    f"7\t{A}\t2013-01-27 21:42:38\n7\t{B}\t2013-01-27 21:40:00\n8\t{C}\t2013-01-28 00:00:00\n9\t{A}\t0000-00-00\n",
    "id_tags_dict.tsv.bz2": "id\t(tag, weight)\n"
    f"{A}\t{{'dance': 3.0, 'pop': 100.0, 'cheryl': 40}}\n"
    f'{B}\t"{{\'r&b\': 1, ""don\'t"": 5}}"\n'
    f"{C}\t__import__('os').getcwd()\n",
}


def everything():
    return {name: text for name, text in FILES.items() if name != "listening_history.csv"} | ONION


def test_tags_by_weight_and_the_log_of_onion(source, prepared):
    out = prepared("music4all-onion", source(everything(), AUDIO))
    assert [row.get("tags") for row in out.tracks] == [
        ["electro pop", "cheryl", "dance"],
        ["don't", "r&b"],
        ["britpop"],
    ]
    assert out.events == [
        ("7", A, "2013-01-27 21:42:38", "listen"),
        ("7", B, "2013-01-27 21:40:00", "listen"),
        ("8", C, "2013-01-28 00:00:00", "listen"),
    ]
    reasons = {row[1]: row[2] for row in out.rejects}
    assert reasons["id_tags_dict.tsv.bz2:4"] == "bad_tags" and reasons[f"{LOG}:5"] == "bad_ts"
    assert "CC BY 4.0" in out.summary.dataset.licence


def test_unpacked_files_and_no_dictionary(source, prepared):
    files = everything()
    files[LOG.removesuffix(".bz2")] = files.pop(LOG)
    del files["id_tags_dict.tsv.bz2"]
    out = prepared("music4all-onion", source(files, AUDIO))
    assert len(out.events) == 3 and out.tracks[2]["tags"] == ["britpop"]
    assert out.summary.missing == ("id_tags_dict.tsv.bz2 is not there: tags are those of id_tags.csv",)


def test_a_truncated_file_is_named_and_nothing_is_left(source, tmp_path):
    folder = source(everything(), AUDIO)
    (folder / LOG).write_bytes((folder / LOG).read_bytes()[:-20])
    with pytest.raises(HTCLError, match=rf"{LOG} cannot be read to its end: .*; download it again"):
        prepare("music4all-onion", folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
