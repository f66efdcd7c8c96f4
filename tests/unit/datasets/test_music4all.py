"""Music4All's files onto catalog and log."""

import pytest

from htcl.config_file import load_config
from htcl.datasets.prepare import prepare
from htcl.errors import HTCLError

A, B, C, D = "0009fFIM1eYThaPg", "0010xmHR6UICBOYT", "002Jyd0vN4HyCpqL", "003VDDA7J3Xb2ZFl"
FILES = {
    "id_information.csv": "\ufeffid\tartist\tsong\talbum_name\r\n"
    f'{A}\tCheryl\tRain on Me\t3 Words\n{B}\t"Weird Al"\t"Say ""Hi"""\t\n'
    f'{C}\tOasis\t"Unplugged" Live\tB\n{D}\tNo Audio\tX\tY\nbroken\n{A}\tAgain\tZ\tY\n',
    "id_metadata.csv": "id\tspotify_id\tpopularity\trelease\tdanceability\tenergy\tkey\tmode\tvalence\ttempo"
    f"\tduration_ms\n{A}\t3eObKIf\t13.0\t2009\t0.635\t0.746\t6.0\t1.0\t0.548\t110.9\t229947\nshort\n",
    "id_genres.csv": f"id\tgenres\n{A}\tpop,electro pop\n",
    "id_tags.csv": f"id\ttags\n{A}\tpop, dance,electro pop,\n{C}\tbritpop\n",
    "id_lang.csv": f"id\tlang\n{A}\ten\n{C}\tINTRUMENTAL\n",
    "listening_history.csv": f"user\tsong\ttimestamp\nuser_1\t{A}\t2019-02-20 12:28\nuser_2\t{C}\t2019-01-01 00:05\n"
    f"user_2\t{C}\tyesterday\n\t{A}\t2019-02-20 12:28\nuser_3\t{A}\nuser_1\t{C}\t2018-12-31 23:59\n",
}
AUDIO = [f"audios/{key}.mp3" for key in (A, B, C)]


def test_catalog_and_log(source, prepared):
    out = prepared("music4all", source(FILES, AUDIO))
    assert out.tracks == [
        {
            "track_id": A,
            "title": "Rain on Me",
            "artist": "Cheryl",
            "album": "3 Words",
            "genre": "pop",
            "language": "en",
            "tags": ["electro pop", "dance"],
            "release_date": "2009",
            "audio_path": f"{A}.mp3",
        },
        {"track_id": B, "title": 'Say "Hi"', "artist": "Weird Al", "audio_path": f"{B}.mp3"},
        {
            "track_id": C,
            "title": '"Unplugged" Live',
            "artist": "Oasis",
            "album": "B",
            "tags": ["britpop"],
            "audio_path": f"{C}.mp3",
        },
    ]
    assert out.events == [
        ("user_1", A, "2019-02-20 12:28:00", "listen"),
        ("user_1", C, "2018-12-31 23:59:00", "listen"),
        ("user_2", C, "2019-01-01 00:05:00", "listen"),
    ]
    assert sorted(row[:3] for row in out.rejects) == [
        ("audio", D, "missing_audio"),
        ("catalog", A, "duplicate_track_id"),
        ("catalog", "id_information.csv:6", "malformed_row"),
        ("catalog", "id_metadata.csv:3", "malformed_row"),
        ("interactions", "listening_history.csv:4", "bad_ts"),
        ("interactions", "listening_history.csv:5", "missing_user_id"),
        ("interactions", "listening_history.csv:6", "malformed_row"),
    ]
    assert out.summary.rows == 3 + 3 + 7 and out.summary.undecodable == 0


def test_configuration(source, prepared):
    out = prepared("music4all", source(FILES, AUDIO))
    config = load_config(out.summary.config)
    assert config.catalog.audio_root == str(out.folder.parent / "source" / "audios")
    assert list(config.interactions.positive) == ["listen"]


def test_details_may_be_missing_and_that_is_told(source, prepared):
    files = {name: text for name, text in FILES.items() if name in ("id_information.csv", "listening_history.csv")}
    out = prepared("music4all", source(files, AUDIO))
    assert set(out.tracks[0]) == {"track_id", "title", "artist", "album", "audio_path"}
    assert [what.split()[0] for what in out.summary.missing] == [
        "id_metadata.csv",
        "id_genres.csv",
        "id_tags.csv",
        "id_lang.csv",
    ]


def test_bytes_that_are_no_utf8_are_kept_visible_and_counted(source, prepared):
    files = FILES | {
        "id_information.csv": f"id\tartist\tsong\talbum_name\n{A}\tBeyonc\xe9\tHalo\tI\n".encode("latin-1")
    }
    out = prepared("music4all", source(files, AUDIO))
    assert out.tracks[0]["artist"] == "Beyonc\ufffd" and out.summary.undecodable == 1


@pytest.mark.parametrize("name", ["id_information.csv", "listening_history.csv"])
def test_a_missing_file_is_named_with_the_way_out(source, tmp_path, name):
    files = {key: text for key, text in FILES.items() if key != name}
    with pytest.raises(HTCLError, match=rf"{name} is not there; --from has to be .*(?s:.*)contact4music4all"):
        prepare("music4all", source(files, AUDIO), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_missing_column_is_named(source, tmp_path):
    files = FILES | {"id_lang.csv": "id,lang\nx,en\n"}
    with pytest.raises(HTCLError, match=r"id_lang.csv: column 'id' is missing \(it has id,lang\)"):
        prepare("music4all", source(files, AUDIO), tmp_path / "out")


def test_without_any_audio_nothing_is_made(source, tmp_path):
    with pytest.raises(
        HTCLError, match=rf"not one track can be used: missing_audio 5, such as {A} \({A}.mp3 is not below"
    ):
        prepare("music4all", source(FILES, ["audios/other.mp3"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()
