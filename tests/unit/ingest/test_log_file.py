"""The same events in any format become the same rows; what cannot be read is flagged, and stops nothing."""

import csv
import datetime as dt
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl.config import InteractionsConfig
from htcl.errors import HTCLError
from htcl.ingest import log
from htcl.ingest.log import LOG_ROWS, read_log_file, read_log_times
from htcl.ingest.reading import SUFFIXES
from htcl.schemas import INTERACTIONS

NOON = dt.datetime(2025, 3, 31, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)

EVENTS = [
    {
        "event_id": "e1",
        "ts": "2025-03-31T12:00:00Z",
        "user_id": "ana",
        "track_id": "Say, Hello",
        "event_type": "play",
        "duration_ratio": "0.75",
        "played_seconds": "120",
        "session_id": "s1",
        "trigger_track_id": "A \"quoted\", 'odd' name\nof two lines",
    },
    {
        "event_id": None,
        "ts": "2025-03-31T13:00:00Z",
        "user_id": "Bên",
        "track_id": "t2",
        "event_type": "like",
        "duration_ratio": None,
        "played_seconds": None,
        "session_id": None,
        "trigger_track_id": None,
    },
    {
        "event_id": "e3",
        "ts": "2025-03-31T14:00:00Z",
        "user_id": "ana",
        "track_id": "t3",
        "event_type": "skip",
        "duration_ratio": "0.0",
        "played_seconds": "1.5",
        "session_id": "s1",
        "trigger_track_id": None,
    },
]
GOOD = {"ts": "2025-03-31T12:00:00Z", "user_id": "ana", "track_id": "t1", "event_type": "like"}
NUMBERS = ("duration_ratio", "played_seconds")


def typed(row):
    """An event as LOG_ROWS has it."""
    numbers = {name: float(row[name]) for name in NUMBERS if row.get(name)}
    ts = dt.datetime.fromisoformat(row["ts"])
    return {**dict.fromkeys(LOG_ROWS.names), "malformed": False, **row, **numbers, "ts": ts}


MALFORMED = {**dict.fromkeys(LOG_ROWS.names), "malformed": True}


def write(path, rows):
    """Write rows in the format that the name tells; Parquet as typed columns."""
    if path.suffix == ".parquet":
        names = {name: None for row in rows for name in row}
        pq.write_table(pa.Table.from_pylist([{name: typed(row)[name] for name in names} for row in rows]), path)
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".jsonl" in path.name:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)


def kind(path):
    return next(kind for kind, ends in SUFFIXES.items() if path.name.endswith(ends))


def read(path, row_groups=None, **section):
    """The rows of a file."""
    settings = InteractionsConfig(path="log", **section)
    found = list(read_log_file(str(path), kind(path), settings, row_groups))
    assert all(rows.schema == LOG_ROWS for rows in found)
    moments = [times.to_pylist() for times in read_log_times(str(path), kind(path), settings, row_groups)]
    rows = [row for rows in found for row in rows.to_pylist()]
    # Where only the days are asked for, they are those of the rows.
    seen = [moment for part in moments for moment in part if moment is not None]
    assert seen == [row["ts"] for row in rows if row["ts"] is not None]
    return rows


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.tsv", "log.jsonl", "log.jsonl.gz", "log.parquet"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    write(tmp_path / name, EVENTS)
    assert read(tmp_path / name) == [typed(event) for event in EVENTS]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_rows_come_in_batches_of_bounded_size(tmp_path, monkeypatch, name):
    monkeypatch.setattr(log, "BATCH_ROWS", 16)
    rows = [{**GOOD, "track_id": f"t{n % 7}"} for n in range(100)]
    write(tmp_path / name, rows)
    assert read(tmp_path / name) == [typed(row) for row in rows]
    settings = InteractionsConfig(path="log")
    if name != "log.csv":  # of CSV a batch is a number of bytes
        assert max(len(b) for b in read_log_file(str(tmp_path / name), kind(tmp_path / name), settings)) <= 16


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_columns_are_read_by_the_names_that_the_platform_has(tmp_path, name):
    write(tmp_path / name, [typed_names({**GOOD, "session_id": "s1"}, {"track_id": "song", "session_id": "visit"})])
    (row,) = read(tmp_path / name, columns={"track_id": "song", "session_id": "visit"})
    assert (row["track_id"], row["session_id"], row["user_id"]) == ("t1", "s1", "ana")
    # One column may stand for two.
    (row,) = read(tmp_path / name, columns={"track_id": "song", "event_id": "song"})
    assert (row["track_id"], row["event_id"]) == ("t1", "t1")


def typed_names(row, names):
    return {names.get(name, name): value for name, value in row.items()}


@pytest.mark.parametrize("name", ["1.csv", "1.tsv"])
def test_each_csv_file_is_read_by_its_own_header(tmp_path, name):
    for rows in (
        EVENTS,
        [dict(reversed(EVENTS[1].items()))],
        [{"track_id": "t9", **GOOD, "remark": "text, of theirs"}],
    ):
        write(tmp_path / name, rows)
        known = [{name: value for name, value in row.items() if name in INTERACTIONS.names} for row in rows]
        assert read(tmp_path / name) == [typed(row) for row in known]


@pytest.mark.parametrize("text", ["", "user_id,ts,track_id,event_type\n", "user_id,ts,track_id,event_type"])
def test_a_csv_file_without_rows_has_none(tmp_path, text):
    (tmp_path / "log.csv").write_text(text)
    assert read(tmp_path / "log.csv") == []


@pytest.mark.parametrize("name", ["log.jsonl", "log.parquet"])
def test_a_file_without_rows_has_none(tmp_path, name):
    write(tmp_path / name, [])
    assert read(tmp_path / name) == []


@pytest.mark.parametrize("index", ["", "`", "a.b", "event_type"])
def test_a_csv_header_may_hold_odd_names(tmp_path, index):
    """An index column that pandas wrote has no name; of two columns of one name the last counts."""
    line = ",".join(GOOD.values())
    (tmp_path / "log.csv").write_text(f"{index},{','.join(GOOD)}\n0,{line}\n")
    assert read(tmp_path / "log.csv") == [typed(GOOD)]


def test_a_name_in_a_csv_header_may_have_two_lines(tmp_path):
    line = ",".join(GOOD.values())
    (tmp_path / "log.csv").write_text(f'"remark\nof theirs",{",".join(GOOD)}\nx,{line}\n')
    assert read(tmp_path / "log.csv") == [typed(GOOD)]


def test_a_csv_header_may_start_with_a_byte_order_mark(tmp_path):
    (tmp_path / "log.csv").write_text(f"{','.join(GOOD)}\r\n{','.join(GOOD.values())}\r\n", encoding="utf-8-sig")
    assert read(tmp_path / "log.csv") == [typed(GOOD)]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_rows_without_any_column_of_the_contract_do_not_vanish(tmp_path, name):
    """Such as those of a CSV file without a header, whose first row is taken for it."""
    if name == "log.parquet":
        pq.write_table(pa.table({"a": [1, 2]}), tmp_path / name)
    else:
        write(tmp_path / name, [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}])
    rows = read(tmp_path / name)
    assert len(rows) == 2 and all(row["track_id"] is None for row in rows)


HEADER = "event_id,ts,user_id,track_id,event_type,duration_ratio,session_id,trigger_track_id\n"
SHIFTED = "e1,2025-03-31T12:00:00Z,Ana, Maria,t1,like,0.9,s1,t2\n"
STRAIGHT = "e2,2025-03-31T12:00:00Z,Ben,t2,like,0.9,s1,t3\n"
SHORT = "e3,2025-03-31T12:00:00Z,Ana\n"


@pytest.mark.parametrize("bad", [SHIFTED, SHORT], ids=["too many", "too few"])
@pytest.mark.parametrize("unread", ["", "remark,", "remark,source,"])
@pytest.mark.parametrize("first", [True, False])
def test_a_csv_row_of_other_length_is_malformed_whichever_columns_are_read(tmp_path, bad, unread, first):
    cells = "," * unread.count(",")
    lines = [cells + bad, cells + STRAIGHT] if first else [cells + STRAIGHT, cells + bad]
    (tmp_path / "log.csv").write_text(unread + HEADER + "".join(lines))
    good, malformed = read(tmp_path / "log.csv")
    assert (good["user_id"], good["track_id"], good["malformed"]) == ("Ben", "t2", False)
    assert malformed == MALFORMED  # no cell of it goes on


def test_a_csv_file_of_malformed_rows_alone_is_read(tmp_path):
    (tmp_path / "log.csv").write_text(HEADER + SHIFTED * 3)
    assert read(tmp_path / "log.csv") == [MALFORMED] * 3


def test_a_csv_row_without_its_last_line_break_is_read(tmp_path):
    (tmp_path / "log.csv").write_text(HEADER + STRAIGHT + STRAIGHT.strip())
    assert [row["track_id"] for row in read(tmp_path / "log.csv")] == ["t2", "t2"]


BLANK = ["event_id", "session_id", "trigger_track_id", "user_id", "duration_ratio", "ts"]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_blank_cells_are_null(tmp_path, name):
    blanks = ["", " ", "  ", "\t"]
    write(tmp_path / name, [{**EVENTS[2], **dict.fromkeys(BLANK, blank)} for blank in blanks])
    if name.endswith("csv"):
        with (tmp_path / name).open("a") as file:
            file.write('"","","",t3,skip,"",1.5,"",""\n')
    rows = read(tmp_path / name)
    assert len(rows) == (5 if name.endswith("csv") else 4)
    assert all(row[column] is None for row in rows for column in [*BLANK, "ts_text"])
    assert {row["track_id"] for row in rows} == {"t3"} and not any(row["malformed"] for row in rows)


@pytest.mark.parametrize(
    ("text", "number"), [("0.5", 0.5), (" 1e-1 ", 0.1), ("loud", None), ("0,5", None), ("1.2.3", None), ("nan", None)]
)
@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_number_that_cannot_be_read_is_nan(tmp_path, name, text, number):
    write(tmp_path / name, [{**GOOD, "played_seconds": text}])
    (row,) = read(tmp_path / name)
    assert row["played_seconds"] == pytest.approx(float("nan") if number is None else number, nan_ok=True)


@pytest.mark.parametrize("name", ["log.tsv", "log.jsonl"])
def test_a_time_that_cannot_be_read_is_kept_as_it_stood_there(tmp_path, name):
    write(tmp_path / name, [{**GOOD, "ts": text} for text in ("soon", GOOD["ts"], " ")])
    rows = read(tmp_path / name)
    assert [(row["ts"], row["ts_text"]) for row in rows] == [(None, "soon"), (NOON, None), (None, None)]


def test_times_that_name_no_zone_are_of_the_configured_one(tmp_path):
    write(tmp_path / "log.jsonl", [{**GOOD, "ts": "2025-03-31 12:00"}])
    (row,) = read(tmp_path / "log.jsonl", timezone="Asia/Tokyo")
    assert row["ts"] == NOON - 9 * HOUR


ODD_JSON = {
    "half an object": '{"user_id": "ana", "track_id": "t1',
    "a list": '["ana", "t1"]',
    "no JSON": "ana t1",
    "a number": "5",
    "null": "null",
    "a very deep list": "[" * 100_000,
    "a number of 5000 digits": "9" * 5000,
    "two objects": '{"user_id": "ana"} {"user_id": "ana"}',
}


@pytest.mark.parametrize("line", ODD_JSON.values(), ids=ODD_JSON)
def test_json_that_is_no_object_is_malformed(tmp_path, line):
    good = json.dumps({**GOOD, "_corrupt": "a column of the platform"})
    (tmp_path / "log.jsonl").write_text(f"{good}\n\n{line}\n  \n{good}")
    assert read(tmp_path / "log.jsonl") == [typed(GOOD), typed(GOOD), MALFORMED]


def test_json_values_of_other_types_become_text(tmp_path):
    values = {"user_id": 17, "track_id": 5.0, "session_id": True, "event_id": [1, "ä"], "trigger_track_id": {"a": None}}
    write(tmp_path / "log.jsonl", [{**GOOD, **values, "ts": 1_743_422_400_000, "played_seconds": 3}])
    (row,) = read(tmp_path / "log.jsonl")
    assert row == {
        **typed(GOOD),
        "user_id": "17",
        "track_id": "5.0",
        "session_id": "true",
        "event_id": '[1, "ä"]',
        "trigger_track_id": '{"a": null}',
        "played_seconds": 3.0,
    }


def test_half_a_character_in_json_costs_no_row(tmp_path):
    lines = [json.dumps({**GOOD, "track_id": track, "event_id": track}) for track in ("\ud800x", "t2")]
    assert "\\ud800x" in lines[0]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    rows = read(tmp_path / "log.jsonl")
    assert [row["track_id"] for row in rows] == [row["event_id"] for row in rows] == ["?x", "t2"]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_bytes_that_are_no_utf8_cost_no_row(tmp_path, name):
    write(tmp_path / name, [{**GOOD, "track_id": "Bên"}, {**GOOD, "track_id": "BXn"}])
    content = (tmp_path / name).read_bytes().replace(b"BXn", b"B\xean")
    (tmp_path / name).write_bytes(content)
    tracks = [row["track_id"] for row in read(tmp_path / name)]
    assert tracks in (["Bên", "B\ufffdn"], ["B\u00ean", "B\ufffdn"])


def parquet(path, **columns):
    """One good event, some of its columns of other types."""
    pq.write_table(pa.table({name: [value] for name, value in GOOD.items()} | columns), path)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (pa.array([17]), "17"),
        (pa.array([17], pa.uint8()), "17"),
        (pa.array(["t1"]).dictionary_encode(), "t1"),
        (pa.array([17]).dictionary_encode(), "17"),
        (pa.array(["t1"], pa.large_string()), "t1"),
        (pa.array(["t1"], pa.large_string()).dictionary_encode(), "t1"),
        (pa.array(["t1"], pa.string_view()), "t1"),
        (pa.array([b"t1"]), "t1"),
        (pa.array(["1.50"]).cast(pa.decimal128(5, 2)), "1.50"),
        (pa.array([dt.date(2025, 3, 31)]), "2025-03-31"),
        (pa.array([True]), "true"),
        (pa.array([" "]), None),
        (pa.array([" "]).dictionary_encode(), None),
        (pa.nulls(1), None),
        (pa.array([12345678901.0]), "12345678901"),
        (pa.array([7.0], pa.float32()), "7"),
        (pa.array([float("nan")]), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_parquet_ids_of_any_type_become_text(tmp_path, ids, text):
    parquet(tmp_path / "log.parquet", **dict.fromkeys(("user_id", "track_id", "event_id"), ids))
    (row,) = read(tmp_path / "log.parquet")
    assert row["user_id"] == row["track_id"] == row["event_id"] == text


@pytest.mark.parametrize("ids", [pa.array([2.0**53]), pa.array([2.0**24], pa.float32()), pa.array([1.5])])
def test_parquet_ids_that_a_float_rounds_are_refused_with_the_way_out(tmp_path, ids):
    parquet(tmp_path / "log.parquet", track_id=ids)
    with pytest.raises(HTCLError, match=r"column of track_id .* write these ids as text or integers"):
        read(tmp_path / "log.parquet")


@pytest.mark.parametrize(
    ("numbers", "number"),
    [
        (pa.array([1]), 1.0),
        (pa.array([0.5], pa.float32()), 0.5),
        (pa.array(["0.5"]), 0.5),
        (pa.array(["0.50"]).cast(pa.decimal128(5, 2)), 0.5),
        (pa.array([float("nan")]), None),
        (pa.array([" "]), None),
        (pa.nulls(1), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_parquet_numbers_of_any_type_are_read(tmp_path, numbers, number):
    parquet(tmp_path / "log.parquet", duration_ratio=numbers, played_seconds=numbers)
    (row,) = read(tmp_path / "log.parquet")
    assert row["duration_ratio"] == row["played_seconds"] == number


@pytest.mark.parametrize("name", ["session_id", "track_id", "event_id", "ts", "duration_ratio"])
@pytest.mark.parametrize("values", [pa.array([[1, 2]]), pa.array([{"a": 1}])], ids=["list", "struct"])
def test_a_parquet_column_that_is_no_text_number_or_time_is_named_with_the_way_out(tmp_path, name, values):
    parquet(tmp_path / "log.parquet", **{name: values})
    with pytest.raises(
        HTCLError, match=rf"log.parquet: the column of {name} is of type .*interactions.columns.{name}$"
    ):
        list(read_log_file(str(tmp_path / "log.parquet"), "parquet", InteractionsConfig(path="log")))


def test_rows_of_parquet_ids_with_blanks_and_repetitions_are_in_place(tmp_path):
    tracks = ["a", " ", "b", None, "a", "", "b"]
    pq.write_table(
        pa.table({name: [GOOD[name]] * 7 for name in GOOD if name != "track_id"} | {"track_id": tracks}),
        tmp_path / "log.parquet",
    )
    assert [row["track_id"] for row in read(tmp_path / "log.parquet")] == ["a", None, "b", None, "a", None, "b"]


def test_only_the_row_groups_that_are_asked_for_are_read(tmp_path):
    rows = [{**GOOD, "track_id": f"t{n}", "ts": str(NOON + n * HOUR)} for n in range(10)]
    table = pa.Table.from_pylist([{name: typed(row)[name] for name in GOOD} for row in rows])
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=3)
    found = [read(tmp_path / "log.parquet", row_groups=groups) for groups in ((0, 2), (1,), (3,))]
    assert [[row["track_id"] for row in part] for part in found] == [
        ["t0", "t1", "t2", "t6", "t7", "t8"],
        ["t3", "t4", "t5"],
        ["t9"],
    ]


def broken(path, how):
    """A file that cannot be read to its end."""
    rows = [{**GOOD, "track_id": f"t{n * 7919 % 5003}"} for n in range(3000)]
    write(path, rows)
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[len(content) // 2 :]
    elif how == "damaged":
        content[30:70] = b"\xff" * 40  # where the first block says how it is packed
    else:
        content[:] = b"no such format at all"
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("log.csv.gz", "truncated"),
        ("log.csv.gz", "damaged"),
        ("log.csv.gz", "another"),
        ("log.jsonl.gz", "truncated"),
        ("log.jsonl.gz", "damaged"),
        ("log.jsonl.gz", "another"),
        ("log.parquet", "truncated"),
        ("log.parquet", "another"),
    ],
)
@pytest.mark.parametrize("reader", [read_log_file, read_log_times])
def test_a_file_that_ends_too_soon_is_named_with_the_way_out(tmp_path, name, how, reader):
    path = tmp_path / name
    broken(path, how)
    with pytest.raises(HTCLError, match=rf"{name} cannot be read to its end: .*; mend or remove the file$"):
        list(reader(str(path), kind(path), InteractionsConfig(path="log")))


def test_a_file_that_is_gone_is_named(tmp_path):
    for name in ("log.csv", "log.jsonl", "log.parquet"):
        with pytest.raises(HTCLError, match=f"{name} cannot be read to its end: .*No such file"):
            list(read_log_file(str(tmp_path / name), kind(tmp_path / name), InteractionsConfig(path="log")))
