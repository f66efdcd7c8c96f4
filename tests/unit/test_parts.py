import uuid
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl import storage
from htcl.parts import PARTS, Part, part_rows, total_rows, write_part

ROWS = pa.table({"dt": ["a b/ü%"] * 3, "n": [1, 2, 3], "users": [[1], [], [2, 3]]})


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    return str(tmp_path / "new") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def read(folder, part):
    with storage.local_copy(storage.join(folder, part.path)) as path:
        return pq.ParquetFile(path).read()


def test_a_part_holds_the_rows_and_says_how_large_it_is(folder):
    part = write_part(folder, ROWS, "deep", name="b1")
    assert read(folder, part) == ROWS
    assert part.path.startswith("deep/b1-") and part.path.endswith(".parquet")
    assert (part.rows, part.partition) == (3, None)
    assert part.size == len(storage.read_bytes(storage.join(folder, part.path)))


def test_the_partition_is_told_by_the_folder_and_not_by_the_file(folder):
    for rows in (ROWS, ROWS.drop_columns(["dt"])):
        part = write_part(folder, rows, partition_by="dt", value="a b/ü%")
        assert part.path.startswith("dt=a b%2F%C3%BC%25/part-") and part.partition == "a b/ü%"
        assert read(folder, part) == ROWS.drop_columns(["dt"])


def test_parts_written_at_once_do_not_meet(folder):
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda n: write_part(folder, pa.table({"n": [n]}), "x"), range(20)))
    assert [read(folder, part)["n"].to_pylist() for part in parts] == [[n] for n in range(20)]
    assert total_rows(parts) == 20 and len(storage.list_files(folder)) == 20


def test_parts_travel_as_rows():
    parts = [Part("a/b.parquet", 7, 3, "ü"), Part("c.parquet", 1, 0)]
    rows = part_rows(parts)
    assert rows.schema == PARTS and [Part(**row) for row in rows.to_pylist()] == parts
    assert part_rows([]).num_rows == 0
