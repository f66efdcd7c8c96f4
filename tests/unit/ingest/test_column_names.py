"""The columns of an input: a sample is enough, unless a name that is wanted has not been seen yet."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl.ingest.reading import column_names


def write(path, rows):
    """Write rows as JSON lines or CSV, as the name tells."""
    with path.open("w", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


@pytest.fixture
def late(tmp_path):
    """JSON lines with `trigger` in the row after 1500 others, and `other` in the one after that."""
    rows = [{"id": number} for number in range(1500)]
    return write(tmp_path / "late.jsonl", [*rows, {"id": 1500, "trigger": "a"}, {"id": 1501, "other": 1}])


def test_without_a_wanted_name_a_sample_is_looked_at(late):
    assert column_names([late], "jsonl") == ["id"]
    assert column_names([late], "jsonl", wanted=["id"]) == ["id"]
    assert column_names([late], "jsonl", sample=1500) == ["id", "trigger"]


def test_a_wanted_name_is_looked_for_beyond_the_sample_and_no_further(late):
    assert column_names([late], "jsonl", wanted=["id", "trigger"]) == ["id", "trigger"]


def test_a_wanted_name_that_is_nowhere_is_looked_for_to_the_end(late):
    assert column_names([late], "jsonl", wanted=["nowhere"]) == ["id", "trigger", "other"]


def test_a_wanted_name_is_looked_for_in_later_files(tmp_path):
    first = write(tmp_path / "1.csv", [{"id": number} for number in range(1200)])
    second = write(tmp_path / "2.csv", [{"trigger": "a", "id": 1}])
    assert column_names([first, second], "csv") == ["id"]
    assert column_names([first, second], "csv", wanted=["trigger"]) == ["id", "trigger"]


def test_all_parquet_files_add_their_columns_even_without_a_row(tmp_path):
    schemas = [[("id", pa.string())], [("trigger", pa.string()), ("id", pa.string())], [("ratio", pa.float32())]]
    for number, schema in enumerate(schemas):
        pq.write_table(pa.schema(schema).empty_table(), tmp_path / f"{number}.parquet")
    files = [str(tmp_path / f"{number}.parquet") for number in range(3)]
    assert column_names(files, "parquet") == ["id", "trigger", "ratio"]


def test_parquet_columns_are_read_from_the_schema_not_from_the_rows(tmp_path):
    table = pa.table({"id": pa.array(range(10_000)), "trigger": pa.nulls(10_000, pa.string())})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    # A broken page of rows does not show in the footer, where the schema stands.
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[4:2000] = bytes(1996)
    (tmp_path / "a.parquet").write_bytes(content)
    assert column_names([str(tmp_path / "a.parquet")], "parquet") == ["id", "trigger"]
