"""The log as files and pieces of work, and what is wrong with it before anything runs."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl.config import InteractionsConfig
from htcl.errors import HTCLError
from htcl.ingest.log import read_log_file
from htcl.pairs import units
from htcl.pairs.tasks import Unit
from htcl.pairs.units import file_uri, log_files, units_of

GOOD = {"ts": "2025-03-31T12:00:00Z", "user_id": "ana", "track_id": "t1", "event_type": "like"}
HEADER = "event_id,ts,user_id,track_id,event_type,duration_ratio,session_id,trigger_track_id\n"


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def section(path, **values):
    return InteractionsConfig(path=str(path), **values)


def test_files_are_found_below_any_grain_of_dates_and_hidden_ones_are_not(tmp_path):
    for name in ("dt=2025-03-31/a.jsonl", "dt=2025-03-31/b.jsonl", "2025/04/01/a.jsonl", "top.jsonl"):
        write(tmp_path / name, [GOOD])
    for name in ("_SUCCESS", ".hidden.jsonl", "_tmp/half.jsonl", "readme.txt"):
        write(tmp_path / name, [GOOD])
    format_, files = log_files(section(tmp_path))
    assert format_ == "jsonl"
    assert sorted(files) == ["2025/04/01/a.jsonl", "dt=2025-03-31/a.jsonl", "dt=2025-03-31/b.jsonl", "top.jsonl"]
    assert all(file.path == path and file.days is None for path, file in files.items())


def test_a_log_of_one_file_is_read(tmp_path):
    write(tmp_path / "log.jsonl", [GOOD])
    found = section(tmp_path / "log.jsonl")
    format_, files = log_files(found)
    (unit,) = units_of(found, format_, list(files.values()))
    assert (unit.uri, unit.row_groups) == (str(tmp_path / "log.jsonl"), None)
    assert len(next(read_log_file(unit.uri, format_, found))) == 1


def test_a_changed_file_has_another_tag_and_the_others_have_not(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        write(tmp_path / name, [GOOD])
        os.utime(tmp_path / name, (1_000, 1_000))
    _, before = log_files(section(tmp_path))
    write(tmp_path / "a.jsonl", [{**GOOD, "user_id": "ben"}])  # of the same size
    _, after = log_files(section(tmp_path))
    assert after["a.jsonl"].tag != before["a.jsonl"].tag and after["b.jsonl"] == before["b.jsonl"]


def test_a_mapped_column_may_appear_first_after_row_1500(tmp_path):
    rows = [{**GOOD, "track_id": f"a{n}"} for n in range(1600)]
    write(tmp_path / "log.jsonl", [*rows, {**GOOD, "because_of": "t7"}])
    assert len(log_files(section(tmp_path, columns={"trigger_track_id": "because_of"}))[1]) == 1


def test_a_mapped_column_that_is_nowhere_is_named(tmp_path):
    write(tmp_path / "log.jsonl", [GOOD])
    with pytest.raises(HTCLError, match=r"'because_of' is missing .*interactions.columns.trigger_track_id"):
        log_files(section(tmp_path, columns={"trigger_track_id": "because_of"}))


@pytest.mark.parametrize("name", list(GOOD))
def test_a_column_that_no_log_can_do_without_is_named(tmp_path, name):
    write(tmp_path / "log.jsonl", [{key: value for key, value in GOOD.items() if key != name}])
    with pytest.raises(HTCLError, match=rf"column '{name}' is missing .*interactions.columns.{name}"):
        log_files(section(tmp_path))


@pytest.mark.parametrize("content", ["", HEADER])
def test_a_log_without_events_is_an_error(tmp_path, content):
    (tmp_path / "log.csv").write_text(content)
    with pytest.raises(HTCLError, match=r"interactions.path: .*log.csv holds no events"):
        log_files(section(tmp_path / "log.csv"))


def test_files_of_several_formats_are_an_error_unless_one_is_named(tmp_path):
    write(tmp_path / "a.jsonl", [GOOD])
    (tmp_path / "b.csv").write_text(HEADER)
    with pytest.raises(HTCLError, match=r"files of several formats; set interactions.format"):
        log_files(section(tmp_path))
    assert list(log_files(section(tmp_path, format="jsonl"))[1]) == ["a.jsonl"]


def test_a_named_format_reads_files_whose_names_do_not_tell_it(tmp_path):
    write(tmp_path / "part-00000", [GOOD])
    found = section(tmp_path, format="jsonl")
    format_, files = log_files(found)
    (unit,) = units_of(found, format_, list(files.values()))
    assert unit.uri == file_uri(found, "part-00000") == str(tmp_path / "part-00000")


def parquet_log(folder, sizes):
    """A file for each number of row groups."""
    for number, groups in enumerate(sizes):
        rows = [{**GOOD, "track_id": f"{number}-{n}"} for n in range(10 * groups)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{number}.parquet", row_group_size=10)


def test_a_large_parquet_file_is_cut_at_its_row_groups_and_no_row_is_lost(tmp_path, monkeypatch):
    parquet_log(tmp_path, [7, 1, 30])
    found = section(tmp_path)
    format_, files = log_files(found)
    ordered = [files[name] for name in sorted(files)]
    sizes = [(tmp_path / file.path).stat().st_size for file in ordered]
    monkeypatch.setattr(units, "UNIT_BYTES", sizes[0] // 3 + 1)
    pieces = units_of(found, format_, ordered)
    by_file = {number: [unit for unit in pieces if unit.file == number] for number in range(3)}
    assert [len(by_file[number]) for number in range(3)] == [3, 1, -(-sizes[2] // (sizes[0] // 3 + 1))]
    assert by_file[1] == [Unit(1, str(tmp_path / "1.parquet"), None)] or by_file[1][0].row_groups == (0,)
    tracks = [
        row["track_id"]
        for unit in pieces
        for rows in read_log_file(unit.uri, format_, found, unit.row_groups)
        for row in rows.to_pylist()
    ]
    assert sorted(tracks) == sorted(
        f"{number}-{n}" for number, groups in enumerate([7, 1, 30]) for n in range(10 * groups)
    )


def test_there_are_no_more_pieces_than_row_groups(tmp_path, monkeypatch):
    parquet_log(tmp_path, [4])
    monkeypatch.setattr(units, "UNIT_BYTES", 1)
    found = section(tmp_path)
    format_, files = log_files(found)
    pieces = units_of(found, format_, list(files.values()))
    assert [unit.row_groups for unit in pieces] == [(0,), (1,), (2,), (3,)]


def test_large_pieces_come_first(tmp_path):
    for number, rows in enumerate((3, 90, 1, 30)):
        write(tmp_path / f"{number}.jsonl", [GOOD] * rows)
    found = section(tmp_path)
    format_, files = log_files(found)
    pieces = units_of(found, format_, [files[name] for name in sorted(files)])
    assert [unit.file for unit in pieces] == [1, 3, 0, 2]
    assert [unit.uri for unit in pieces] == [str(tmp_path / f"{n}.jsonl") for n in (1, 3, 0, 2)]
