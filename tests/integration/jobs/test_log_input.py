"""The same events in any format become the same rows; what cannot be read is flagged, and stops nothing."""

import csv
import datetime as dt
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_input import read_log
from pyspark.sql import functions as F

from htcl.config import InteractionsConfig
from htcl.errors import HTCLError
from htcl.schemas import INTERACTIONS

NOON = 1_743_422_400_000_000
"""2025-03-31 12:00 UTC."""

HOUR, DAY = 3_600_000_000, 86_400_000_000

EVENTS = [
    {
        "event_id": "e1",
        "ts": "2025-03-31T12:00:00Z",
        "user_id": "ana",
        "track_id": "Say, Hello",
        "event_type": "play",
        "duration_ratio": "0.75",
        "session_id": "s1",
        "trigger_track_id": "A \"quoted\", 'odd' name",
    },
    {
        "event_id": None,
        "ts": "2025-03-31T13:00:00Z",
        "user_id": "Bên",
        "track_id": "t2",
        "event_type": "like",
        "duration_ratio": None,
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
        "session_id": "s1",
        "trigger_track_id": None,
    },
]
GOOD = {"ts": "2025-03-31T12:00:00Z", "user_id": "ana", "track_id": "t1", "event_type": "like"}


def write(path, rows):
    """Write rows in the format that the name tells; Parquet as typed columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        typed = [
            {
                **row,
                "ts": dt.datetime.fromisoformat(row["ts"]),
                "duration_ratio": row["duration_ratio"] and float(row["duration_ratio"]),
            }
            for row in rows
        ]
        pq.write_table(pa.Table.from_pylist(typed), path)
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".jsonl" in path.name:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)


@pytest.fixture
def read(spark):
    """The rows of a log as dictionaries ordered by song, `ts` in microseconds."""

    def rows(path, **section):
        found = read_log(spark, InteractionsConfig(path=str(path), **section)).withColumn("ts", F.unix_micros("ts"))
        return sorted((row.asDict() for row in found.collect()), key=lambda row: row["track_id"] or "")

    return rows


def songs(rows):
    return [row["track_id"] for row in rows]


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.tsv", "log.jsonl", "log.jsonl.gz", "log.parquet"])
def test_every_format_gives_the_same_rows(tmp_path, read, name):
    write(tmp_path / "log" / "dt=2025-03-31" / name, EVENTS)
    rows = read(tmp_path / "log")
    assert all(row.pop("ts_text").startswith("2025-03-31") for row in rows)
    times = [NOON, NOON + HOUR, NOON + 2 * HOUR]
    assert rows == [
        {**event, "ts": ts, "malformed": False, "place": name} for event, ts in zip(EVENTS, times, strict=True)
    ]


def test_each_csv_file_is_read_by_its_own_header(tmp_path, read):
    turned = [dict(reversed(EVENTS[1].items()))]
    fewer = [{"track_id": "t9", **GOOD, "remark": "text, of the platform"}]
    write(tmp_path / "log" / "1.csv", EVENTS[:1])
    write(tmp_path / "log" / "2.csv", turned)
    write(tmp_path / "log" / "3.csv", fewer)
    write(tmp_path / "log" / "4.tsv", [dict(reversed(EVENTS[2].items()))])
    (tmp_path / "log" / "5.csv").write_text("user_id,ts,track_id,event_type\n")
    rows = read(tmp_path / "log")
    empty = dict.fromkeys(INTERACTIONS.names)
    assert [{name: row[name] for name in empty if name != "ts"} for row in rows] == [
        {name: value for name, value in (empty | event).items() if name != "ts"}
        for event in (EVENTS[0], GOOD, EVENTS[1], EVENTS[2])
    ]
    assert [row["place"] for row in rows] == ["1.csv", "3.csv", "2.csv", "4.tsv"]
    assert not any(row["malformed"] for row in rows)


@pytest.mark.parametrize("index", ["", "`", "a.b", "event_type"])
def test_a_csv_header_may_hold_odd_names(tmp_path, read, index):
    """An index column that pandas wrote has no name; of two columns of one name the last counts."""
    line = ",".join(GOOD.values())
    (tmp_path / "log.csv").write_text(f"{index},{','.join(GOOD)}\n0,{line}\n")
    (row,) = read(tmp_path / "log.csv")
    assert (row["event_type"], row["malformed"]) == (GOOD["event_type"], False)


HEADER = "event_id,ts,user_id,track_id,event_type,duration_ratio,session_id,trigger_track_id\n"
SHIFTED = "e1,2025-03-31T12:00:00Z,Ana, Maria,t1,like,0.9,s1,t2\n"
STRAIGHT = "e2,2025-03-31T12:00:00Z,Ben,t2,like,0.9,s1,t3\n"


@pytest.mark.parametrize("unread", ["", "remark,", "remark,source,"])
def test_a_csv_row_with_a_cell_too_many_is_malformed_whichever_columns_are_read(tmp_path, read, unread):
    cells = "," * unread.count(",")
    (tmp_path / "log.csv").write_text(unread + HEADER + cells + STRAIGHT + cells + SHIFTED)
    rows = read(tmp_path / "log.csv")
    assert sorted((row["malformed"], row["place"]) for row in rows) == [(False, "log.csv"), (True, "log.csv")]
    assert [(row["user_id"], row["track_id"]) for row in rows if not row["malformed"]] == [("Ben", "t2")]


def test_no_cell_of_a_malformed_row_goes_on(tmp_path, read):
    (tmp_path / "log.csv").write_text(HEADER + STRAIGHT + SHIFTED)
    (malformed,) = (row for row in read(tmp_path / "log.csv") if row["malformed"])
    cells = {name: value for name, value in malformed.items() if name not in ("malformed", "place")}
    assert cells == dict.fromkeys(cells)


def test_a_csv_file_is_read_though_its_first_row_is_malformed(tmp_path, read):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "1.csv").write_text(HEADER + SHIFTED + STRAIGHT)
    (tmp_path / "log" / "2.csv").write_text(HEADER + STRAIGHT)
    assert sorted((row["place"], row["malformed"]) for row in read(tmp_path / "log")) == [
        ("1.csv", False),
        ("1.csv", True),
        ("2.csv", False),
    ]


def test_a_csv_log_of_one_file_is_read_though_its_first_row_is_malformed(tmp_path, read):
    (tmp_path / "log.csv").write_text(HEADER + SHIFTED + STRAIGHT)
    assert sorted(row["malformed"] for row in read(tmp_path / "log.csv")) == [False, True]


BLANK = ["event_id", "session_id", "trigger_track_id", "user_id"]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_blank_cells_are_null(tmp_path, read, name):
    blanks = ["", " ", "  "]
    write(
        tmp_path / name, [{**EVENTS[2], "track_id": f"t{n}", **dict.fromkeys(BLANK, b)} for n, b in enumerate(blanks)]
    )
    if name.endswith("csv"):
        with (tmp_path / name).open("a") as file:
            file.write('"",2025-03-31,"",t3,skip,0.0,"",""\n')
    rows = read(tmp_path / name)
    assert len(rows) == (4 if name.endswith("csv") else 3)
    assert [{row[column] for column in BLANK} for row in rows] == [{None}] * len(rows)
    assert not any(row["malformed"] for row in rows)


def test_a_mapped_column_may_appear_first_after_row_1500(tmp_path, read):
    rows = [{**GOOD, "track_id": f"a{n}"} for n in range(1600)]
    write(tmp_path / "log.jsonl", [*rows, {**GOOD, "track_id": "b", "because_of": "t7"}])
    found = read(tmp_path / "log.jsonl", columns={"trigger_track_id": "because_of"})
    assert len(found) == 1601
    assert [(row["track_id"], row["trigger_track_id"]) for row in found if row["trigger_track_id"]] == [("b", "t7")]


def test_a_mapped_column_that_is_nowhere_is_named(tmp_path, read):
    write(tmp_path / "log.jsonl", [GOOD])
    with pytest.raises(HTCLError, match=r"'because_of' is missing .*interactions.columns.trigger_track_id"):
        read(tmp_path / "log.jsonl", columns={"trigger_track_id": "because_of"})


@pytest.mark.parametrize("content", ["", HEADER])
def test_a_log_without_events_is_an_error(tmp_path, read, content):
    (tmp_path / "log.csv").write_text(content)
    with pytest.raises(HTCLError, match=r"interactions.path: .*log.csv holds no events"):
        read(tmp_path / "log.csv")


@pytest.mark.parametrize("line", ['{"user_id": "ana", "track_id": "t1', '["ana", "t1"]', "ana t1", "5"])
def test_json_that_is_no_object_is_malformed(tmp_path, read, line):
    good = json.dumps({**GOOD, "_corrupt": "a column of the platform"})
    (tmp_path / "log.jsonl").write_text(f"{good}\n\n{line}\n")
    bad, row = read(tmp_path / "log.jsonl")
    assert (row["track_id"], row["malformed"]) == ("t1", False)
    assert bad == {**dict.fromkeys(bad), "malformed": True, "place": "log.jsonl"}


def parquet(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: [value] for name, value in GOOD.items()} | columns), path)


@pytest.mark.parametrize("names", [("1", "2"), ("2", "1")])
def test_a_parquet_column_that_came_later_is_null_before(tmp_path, read, names):
    without, with_it = names
    parquet(tmp_path / "log" / f"{without}.parquet", track_id=["old"])
    parquet(tmp_path / "log" / f"{with_it}.parquet", track_id=["young"], trigger_track_id=["t7"])
    rows = read(tmp_path / "log")
    assert [(row["track_id"], row["trigger_track_id"]) for row in rows] == [("old", None), ("young", "t7")]


@pytest.mark.parametrize(
    "columns",
    [
        {"track_id": pa.array([5], pa.int64())},
        {"ts": pa.array([dt.datetime(2025, 3, 31)], pa.timestamp("us"))},
        {"session_id": pa.array([[1, 2]])},
    ],
    ids=["number", "time", "list"],
)
def test_parquet_files_of_contradictory_types_are_an_error(tmp_path, read, columns):
    parquet(tmp_path / "log" / "1.parquet", session_id=["s1"])
    parquet(tmp_path / "log" / "2.parquet", **{"session_id": ["s1"], **columns})
    with pytest.raises(HTCLError, match=r"interactions.path: the Parquet files cannot be read as one table"):
        read(tmp_path / "log")


# Of a session in Tokyo, nine hours ahead of UTC all year.
MOMENTS = {
    "2025-03-31T12:00:00": NOON - 9 * HOUR,
    "2025-03-31 12:00": NOON - 9 * HOUR,
    "2025-03-31": NOON - 12 * HOUR - 9 * HOUR,
    "20250331": NOON - 12 * HOUR - 9 * HOUR,
    "2025-03-31T12:00:00Z": NOON,
    "2025-03-31 12:00:00.25+02:00": NOON - 2 * HOUR + 250_000,
    "1743422400": NOON,
    "1743422400.25": NOON + 250_000,
    "1.7434224e9": NOON,
    "1743422400123": NOON + 123_000,
    "1743422400123456": NOON + 123_456,
    "1743422400123456789": NOON + 123_457,
    "-1743422400": None,
    "5": None,
    "2025": None,
    "20250231": None,
    "2025-02-31": None,
    "20250331120000": None,
    "12:30": None,
    "31/03/2025": None,
    "NaN": None,
    "Infinity": None,
    "1e30": None,
    "9" * 40: None,
    "soon": None,
    "": None,
}


NUMBERS = [text for text in MOMENTS if text.lstrip("-").replace("e", "").replace(".", "").isdigit() and text != "1e30"]


@pytest.fixture(scope="module")
def in_tokyo(spark, tmp_path_factory):
    """All of MOMENTS as text and all of NUMBERS as JSON numbers, read at once: (kind, text) -> microseconds."""
    path = tmp_path_factory.mktemp("moments") / "log.jsonl"
    written = {("text", text): json.dumps(text) for text in MOMENTS} | {("number", text): text for text in NUMBERS}
    rest = json.dumps(GOOD)[1:]
    lines = (f'{{"event_id": "{kind} {text}", "ts": {value}, ' for (kind, text), value in written.items())
    path.write_text("".join(line + rest.replace('"ts"', '"other"') + "\n" for line in lines))
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        rows = read_log(spark, InteractionsConfig(path=str(path))).withColumn("ts", F.unix_micros("ts")).collect()
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert len(rows) == len(written) and not any(row["malformed"] for row in rows)
    return {tuple(row["event_id"].split(" ", 1)): row["ts"] for row in rows}


@pytest.mark.parametrize("text", MOMENTS)
def test_a_time_is_read_from_text_in_the_zone_of_the_session(in_tokyo, text):
    assert in_tokyo["text", text] == MOMENTS[text]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_time_is_read_from_a_number(in_tokyo, text):
    assert in_tokyo["number", text] == MOMENTS[text]


@pytest.mark.parametrize(
    ("values", "micros"),
    [
        (pa.array([1_743_422_400]), NOON),
        (pa.array([1_743_422_400.25]), NOON + 250_000),
        (pa.array([1_743_422_400_123]), NOON + 123_000),
        (pa.array([1_743_422_400_123_456]), NOON + 123_456),
        (pa.array([20_250_331], pa.int32()), NOON - 12 * HOUR - 9 * HOUR),
        (pa.array([float("nan")]), None),
        (pa.array([NOON], pa.timestamp("us", "UTC")), NOON),
        (pa.array([NOON], pa.timestamp("us", "America/Lima")), NOON),
        (pa.array([NOON], pa.timestamp("us")), NOON - 9 * HOUR),
        (pa.array([NOON * 1000 + 999], pa.timestamp("ns", "UTC")), NOON),
        (pa.array([NOON * 1000], pa.timestamp("ns")), NOON - 9 * HOUR),
        (pa.array([NOON // DAY], pa.int32()).cast(pa.date32()), NOON - 12 * HOUR - 9 * HOUR),
    ],
    ids=[
        "s",
        "s with a fraction",
        "ms",
        "us",
        "YYYYMMDD",
        "NaN",
        "UTC",
        "Lima",
        "no zone",
        "ns UTC",
        "ns no zone",
        "date",
    ],
)
def test_a_time_is_read_from_any_parquet_type(tmp_path, read, time_zone, values, micros):
    time_zone("Asia/Tokyo")
    parquet(tmp_path / "log.parquet", ts=values)
    assert [row["ts"] for row in read(tmp_path / "log.parquet")] == [micros]


def test_a_time_that_cannot_be_read_is_kept_as_it_stood_there(tmp_path, read):
    write(tmp_path / "log.tsv", [{**GOOD, "ts": "soon"}])
    (row,) = read(tmp_path / "log.tsv")
    assert (row["ts"], row["ts_text"], row["malformed"]) == (None, "soon", False)
