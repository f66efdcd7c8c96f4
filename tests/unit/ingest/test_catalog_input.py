"""A platform's catalog in any format becomes the same checked catalog, or a sentence that says why not."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl.config_file import validate_config
from htcl.errors import HTCLError
from htcl.ingest.catalog import CHECKED_CATALOG, build_catalog, read_catalog
from htcl.ingest.reading import column_names, input_files, read_rows
from htcl.ingest.rejects import check_reject_share
from htcl.schemas import REJECTS
from htcl.split import split_of
from htcl.tables import GrowingTable

ROWS = [
    {
        "track_id": f"t{number}",
        "title": f"Título, {number}",
        "artist": None if number % 2 else "Ana",
        "tags": ["slow", "harp"] if number % 3 else [],
        "audio_path": f"{number}.flac",
        "duration_s": 60.5,
        "split_group": "work" if number < 2 else None,
    }
    for number in range(6)
]


def write(path, rows):
    """Write rows in the format that the name tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".json" in path.name or ".ndjson" in path.name:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(row | {"tags": ";".join(row["tags"])} for row in rows)
    return path


@pytest.fixture
def build(tmp_path):
    """Build the catalog of a path; returns figures and rows."""

    def built(path, **catalog):
        config = validate_config(
            {
                "workspace": str(tmp_path / "workspace"),
                "catalog": {"path": str(path), **catalog},
                "interactions": {"path": "log"},
            },
            "test",
        )
        folder = tmp_path / "artifact"
        folder.mkdir(exist_ok=True)
        figures = build_catalog(config, folder)
        table = read_catalog(folder)
        assert table.schema.equals(CHECKED_CATALOG)
        return figures, table.to_pylist()

    return built


def rejects(tmp_path):
    table = GrowingTable(str(tmp_path / "workspace"), "rejects", REJECTS, partition_by="source").read()
    return [(row["source"], row["key"], row["reason"]) for row in table.to_pylist()]


FORMATS = ["c.jsonl", "c.jsonl.gz", "c.ndjson", "c.csv", "c.csv.gz", "c.tsv", "c.TSV", "c.parquet"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_catalog(tmp_path, build, name):
    figures, rows = build(write(tmp_path / "in" / name, ROWS))
    config = validate_config({"workspace": "w", "catalog": {"path": "c"}, "interactions": {"path": "l"}}, "test")
    optional = {"album": None, "genre": None, "language": None, "release_date": None}
    groups = [row["split_group"] or row["track_id"] for row in ROWS]
    assert rows == [
        optional | row | {"split_group": group, "split": split_of(group, config.split)}
        for row, group in zip(ROWS, groups, strict=True)
    ]
    assert figures["tracks"] == figures["rows"] == 6 and sum(figures["splits"].values()) == 6


@pytest.mark.parametrize("path_kind", ["file", "folder", "file://", "memory://"])
def test_files_folders_and_uris(tmp_path, build, path_kind):
    path = tmp_path / "in" / "dt=1" / "part-0.csv"
    write(path, ROWS[:3])
    write(tmp_path / "in" / "dt=2" / "part-0.csv", ROWS[3:])
    write(tmp_path / "in" / "_temporary" / "part-9.csv", ROWS)
    if path_kind == "memory://":
        import fsspec

        fsspec.filesystem("memory").put(str(tmp_path / "in"), "/catalog_input", recursive=True)
    paths = {
        "file": path,
        "folder": tmp_path / "in",
        "file://": (tmp_path / "in").as_uri(),
        "memory://": "memory://catalog_input",
    }
    _, rows = build(paths[path_kind])
    assert [row["track_id"] for row in rows] == [row["track_id"] for row in ROWS][: 3 if path_kind == "file" else 6]


def test_a_folder_is_read_though_its_file_has_its_name(tmp_path, build):
    write(tmp_path / "c.csv" / "c.csv", ROWS)
    assert build(tmp_path / "c.csv")[0]["tracks"] == 6


def test_other_column_names_are_mapped(tmp_path, build):
    path = write(tmp_path / "c.jsonl", [{"id": 7, "name": "A", "file": "a.mp3", "title": "wrong"}])
    _, (row,) = build(path, columns={"track_id": "id", "title": "name", "audio_path": "file"})
    assert (row["track_id"], row["title"], row["audio_path"]) == ("7", "A", "a.mp3")


def test_byte_order_mark_is_no_part_of_a_column_name(tmp_path, build):
    path = write(tmp_path / "c.csv", ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert build(path)[0]["tracks"] == 6


def test_a_mapped_column_may_be_empty_in_the_first_thousand_rows(tmp_path):
    lines = ["track_id,Album", *(f"{number}," for number in range(1500)), "last,Album 1"]
    (tmp_path / "c.csv").write_text("\n".join(lines))
    assert column_names([str(tmp_path / "c.csv")], "csv") == ["track_id", "Album"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"track_id": "x", "title": "A"', "malformed_row"),
        ('["x", "A", "a.mp3"]', "malformed_row"),
        ('{"title": "A", "audio_path": "a.mp3"}', "missing_track_id"),
        ('{"track_id": "", "title": "A", "audio_path": "a.mp3"}', "missing_track_id"),
        ('{"track_id": "x", "title": null, "audio_path": "a.mp3"}', "missing_title"),
        ('{"track_id": "x", "title": "A"}', "missing_audio_path"),
        ('{"track_id": "t1", "title": "A", "audio_path": "a.mp3"}', "duplicate_track_id"),
    ],
)
def test_refused_rows_are_kept_with_reason_and_place(tmp_path, build, row, reason):
    path = write(tmp_path / "c.jsonl", ROWS)
    path.write_text(path.read_text() + row + "\n")
    figures, rows = build(path, max_reject_share=0.5)
    assert figures["rejects"] == {reason: 1} and figures["rows"] == 7 and len(rows) == 6
    key = next((k for k in ('"x"', '"t1"') if k in row), '"c.jsonl:7"').strip('"')
    key = "c.jsonl:7" if reason == "malformed_row" else key
    assert rejects(tmp_path) == [("catalog", key, reason)]
    table = GrowingTable(str(tmp_path / "workspace"), "rejects", REJECTS, partition_by="source").read()
    assert table["detail"].to_pylist() == ["at c.jsonl:7"]


def test_a_csv_row_with_a_cell_too_many_is_refused_not_shifted(tmp_path, build):
    path = tmp_path / "c.csv"
    path.write_text("track_id,title,audio_path\na,Hello, Goodbye,a.mp3\nb,B,b.mp3,,\n")
    figures, rows = build(path, max_reject_share=0.5)
    assert figures["rejects"] == {"malformed_row": 1} and [row["title"] for row in rows] == ["B"]


def test_places_are_lines_of_the_file(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text('a,b\n1,"two\nlines"\n\n3,4\n')
    assert [(place, row) for place, row in read_rows([str(path)], "csv")] == [
        ("c.csv:3", {"a": "1", "b": "two\nlines"}),
        ("c.csv:5", {"a": "3", "b": "4"}),
    ]


def test_values_of_odd_types_do_not_stop_the_catalog(tmp_path, build):
    odd = {"track_id": 1, "title": 2, "audio_path": "a.mp3", "tags": 80, "duration_s": [3]}
    _, (row,) = build(write(tmp_path / "c.jsonl", [odd]))
    assert (row["track_id"], row["title"], row["tags"], row["duration_s"]) == ("1", "2", ["80"], None)


def test_ids_that_became_floats_are_spelled_as_in_the_log(tmp_path, build):
    rows = {"track_id": [12345678901.0, float("nan")], "title": ["a", "b"], "audio_path": ["a.mp3", "b.mp3"]}
    pq.write_table(pa.table({**rows, "tags": [float("nan")] * 2}), tmp_path / "c.parquet")
    _, (row,) = build(tmp_path / "c.parquet", max_reject_share=0.5)
    assert (row["track_id"], row["tags"]) == ("12345678901", [])


def test_too_many_rejects_fail_and_stay_visible(tmp_path, build):
    path = write(tmp_path / "c.jsonl", [*ROWS, {"track_id": "x"}, {"track_id": "y"}])
    message = r"catalog: 2 of 8 rejected \(25.0%, accepted are 5.0%\): missing_title 2; .*catalog.max_reject_share"
    with pytest.raises(HTCLError, match=message):
        build(path)
    assert len(rejects(tmp_path)) == 2


def test_reject_share_names_the_three_commonest_reasons():
    counts = {"bad_ts": 3, "rare": 1, "missing_user_id": 9, "unknown_track": 5}
    with pytest.raises(HTCLError, match="missing_user_id 9, unknown_track 5, bad_ts 3;"):
        check_reject_share(counts, 100, 0.17, "interactions")
    check_reject_share(counts, 100, 0.18, "interactions")
    check_reject_share({}, 0, 0.0, "interactions")


def test_missing_column_names_column_and_setting(tmp_path, build):
    path = write(tmp_path / "c.jsonl", [{"track_id": "a", "name": "A", "audio_path": "a.mp3"}])
    with pytest.raises(HTCLError, match=r"'title' is missing .*audio_path, name, track_id.*catalog.columns.title"):
        build(path)
    with pytest.raises(HTCLError, match=r"'Album' is missing .*catalog.columns.album"):
        build(path, columns={"title": "name", "album": "Album"})
    with pytest.raises(HTCLError, match=r"catalog.columns: the contract has no column 'titel'"):
        build(path, columns={"titel": "name"})


@pytest.mark.parametrize("content", ["", "track_id,title,audio_path\n"])
def test_an_empty_catalog_is_an_error(tmp_path, build, content):
    (tmp_path / "c.csv").write_text(content)
    with pytest.raises(HTCLError, match=r"catalog.path: .*c.csv holds no row that can be read as csv"):
        build(tmp_path / "c.csv")


def test_a_catalog_of_rejects_only_is_an_error(tmp_path, build):
    path = write(tmp_path / "c.jsonl", [{"track_id": "a", "title": "", "audio_path": "a.mp3"}])
    with pytest.raises(HTCLError, match="holds no valid row; see the rejects table"):
        build(path, max_reject_share=1)


def test_formats_are_told_apart_or_named(tmp_path):
    write(tmp_path / "in" / "a.csv", ROWS)
    write(tmp_path / "in" / "b.jsonl", ROWS)
    (tmp_path / "in" / "song.flac").write_bytes(b"fLaC")
    folder = str(tmp_path / "in")
    with pytest.raises(HTCLError, match=r"files of several formats; set catalog.format"):
        input_files(folder, "auto", "catalog")
    assert input_files(folder, "csv", "catalog") == ("csv", [f"{folder}/a.csv"])
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "events.txt").write_text("")
    with pytest.raises(HTCLError, match="no Parquet, JSONL or CSV file"):
        input_files(str(tmp_path / "log"), "auto", "interactions")
    assert input_files(str(tmp_path / "log"), "jsonl", "interactions")[1] == [f"{tmp_path}/log/events.txt"]
    with pytest.raises(HTCLError, match="does not exist"):
        input_files(str(tmp_path / "nothing"), "auto", "catalog")


def test_broken_files_are_named(tmp_path, build):
    path = write(tmp_path / "c.jsonl.gz", ROWS * 50)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(HTCLError, match=r"c.jsonl.gz cannot be read to its end: .*mend or remove"):
        list(read_rows([str(path)], "jsonl"))
    Path(tmp_path / "c.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(HTCLError, match=r"c.parquet is not a readable Parquet file"):
        build(tmp_path / "c.parquet")
