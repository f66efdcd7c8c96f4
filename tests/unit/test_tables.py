import threading
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake.exceptions import CommitFailedError

from htcl import tables
from htcl.errors import HTCLError
from htcl.schemas import REJECTS
from htcl.tables import GrowingTable, replace_rejects

SCHEMA = pa.schema([pa.field("dt", pa.string(), nullable=False), pa.field("n", pa.int64())])


@pytest.fixture
def table(tmp_path):
    return GrowingTable(str(tmp_path), "counts", SCHEMA, partition_by="dt")


def rows(*values):
    return pa.table({"dt": [dt for dt, _ in values], "n": [n for _, n in values]}, schema=SCHEMA)


def content(table, **arguments):
    return sorted((row["dt"], row["n"]) for row in table.read(**arguments).to_pylist())


def test_a_table_without_a_commit_is_empty(table):
    assert not table.exists()
    assert table.version() == -1
    assert table.read().schema == SCHEMA
    assert table.read(columns=["n"]).column_names == ["n"]


def test_a_change_that_another_run_overtakes_is_made_again_on_top_of_it(table):
    table.replace_rows(rows(("a", 1), ("b", 1)))
    others = [("a", 2), ("b", 2)]

    def one_more(there):
        assert set(there["dt"].to_pylist()) == {"a"}
        if others:
            table.replace_rows(rows(others.pop(0)), [["a"], ["b"]][1 - len(others)])
        return rows(*((row["dt"], row["n"] + 10) for row in there.to_pylist()))

    table.update_rows(one_more, ["a"])
    assert content(table) == [("a", 12), ("b", 2)]
    table.update_rows(lambda there: there.slice(0, 0))
    assert content(table) == []


def test_named_partitions_are_replaced_and_the_others_stay(table):
    assert table.replace_rows(rows(("a", 1), ("b", 2), ("b", 3))) == 0
    assert table.replace_rows(rows(("b", 4)), ["b"]) == 1
    assert content(table) == [("a", 1), ("b", 4)]
    table.replace_rows(rows(), ["a"])
    assert content(table) == [("b", 4)]


def test_false_appends_and_true_replaces_everything(table):
    table.replace_rows(rows(("a", 1)))
    table.replace_rows(rows(("a", 2)), replace=False)
    assert content(table) == [("a", 1), ("a", 2)]
    table.replace_rows(rows(("c", 3)))
    assert content(table) == [("c", 3)]


def test_older_versions_can_be_read(table):
    for n in range(3):
        table.replace_rows(rows(("a", n)))
    assert [content(table, version=version) for version in range(3)] == [[("a", 0)], [("a", 1)], [("a", 2)]]
    (part,) = table.parts(version=1)
    assert pq.read_table(f"{table.uri}/{part.path}")["n"].to_pylist() == [1]
    with pytest.raises(HTCLError, match="table counts has no version 7"):
        table.read(version=7)


def test_reading_takes_columns_and_a_filter(table):
    table.replace_rows(rows(("a", 1), ("b", 2)))
    assert table.read(columns=["n"], filter_=pc.field("dt") == "b").to_pydict() == {"n": [2]}
    assert sorted((part.path.split("/")[0], part.rows, part.partition) for part in table.parts()) == [
        ("dt=a", 1, "a"),
        ("dt=b", 1, "b"),
    ]
    assert all((Path(table.uri) / part.path).stat().st_size == part.size for part in table.parts())


def test_rows_that_were_worked_out_from_an_older_version_are_refused(table):
    base = table.version()
    table.replace_rows(rows(("a", 1)), base=base)
    with pytest.raises(HTCLError, match=r"another run has changed it meanwhile \(version -1 -> 0\); run the step"):
        table.replace_rows(rows(("a", 1)), base=base)
    assert content(table) == [("a", 1)]


def test_a_base_is_held_only_against_the_partitions_that_are_replaced(table):
    base = table.replace_rows(rows(("a", 1), ("b", 2)))
    table.replace_rows(rows(("b", 3)), ["b"])
    assert table.replace_rows(rows(("a", 4)), ["a"], base=base) == 2
    with pytest.raises(HTCLError, match=r"another run has changed it meanwhile \(version 0 -> 2\)"):
        table.replace_rows(rows(("b", 5)), ["b"], base=base)
    with pytest.raises(HTCLError, match="another run has changed it"):
        table.replace_rows(rows(("c", 6)), base=base)
    table.replace_rows(rows(("c", 7)), replace=False, base=base)
    assert content(table) == [("a", 4), ("b", 3), ("c", 7)]


def test_files_are_invisible_until_they_are_committed(table):
    table.replace_rows(rows(("a", 1)))
    part = table.write(rows(("b", 2)), "b")
    table.write(rows(("b", 3)), "b")  # of a task that nobody heard of
    assert content(table) == [("a", 1)]
    table.commit([part], replace=["b"])
    assert content(table) == [("a", 1), ("b", 2)]
    assert table.parts()[0].rows == 1


def test_a_commit_says_what_it_was_given_to_say(table):
    assert table.properties() == {}
    table.commit([table.write(rows(("a", 1)), "a")], True, properties={"files": "ü", "n": [1]})
    table.replace_rows(rows(("b", 1)), ["b"])
    assert table.properties(0) == {"files": "ü", "n": [1]}
    assert table.properties() == {}
    with pytest.raises(HTCLError, match="has no version 9"):
        table.properties(9)


def test_vacuum_deletes_what_the_newest_version_does_not_need(table):
    table.commit([table.write(rows(("a", 1)), "a")], True, properties={"kept": 1})
    table.commit([table.write(rows(("a", 2)), "a")], True, properties={"kept": 2})
    table.write(rows(("b", 3)), "b")
    table.vacuum()
    assert [f.name for f in Path(table.uri).rglob("*.parquet")] == [Path(table.parts()[0].path).name]
    assert content(table) == [("a", 2)] and table.properties() == {"kept": 2}


def test_a_partition_value_with_special_characters_is_kept_as_it_is(table):
    table.replace_rows(rows(("a b/ü%:", 1)))
    table.replace_rows(rows(("a b/ü%:", 2)), ["a b/ü%:"])
    assert content(table) == [("a b/ü%:", 2)]


def test_rows_outside_the_replaced_partitions_are_refused(table):
    table.replace_rows(rows(("a", 1), ("b", 2)))
    with pytest.raises(HTCLError, match="there are rows of dt b, which this commit does not replace"):
        table.replace_rows(rows(("a", 3), ("b", 4)), ["a"])
    assert content(table) == [("a", 1), ("b", 2)]


def test_partitions_of_a_table_without_any_cannot_be_replaced(tmp_path):
    table = GrowingTable(str(tmp_path), "counts", SCHEMA)
    table.replace_rows(rows(("a", 1)))
    with pytest.raises(HTCLError, match="table counts has no partitions; a cannot be told apart"):
        table.commit([], ["a"])
    assert content(table) == [("a", 1)]


@pytest.mark.parametrize("name", ["a b", "ü#x?y", "[x]::y", "file"])
def test_a_table_lies_wherever_its_workspace_does(tmp_path, name):
    table = GrowingTable(f"file://{tmp_path}/{name}" if name == "file" else f"{tmp_path}/{name}", "counts", SCHEMA)
    for n in range(2):
        table.replace_rows(rows(("a", n)))
    assert content(table) == [("a", 1)] and content(table, version=0) == [("a", 0)]
    assert (tmp_path / name / "tables" / "counts" / table.parts()[0].path).exists()


def test_a_path_with_a_percent_sign_is_refused(tmp_path):
    with pytest.raises(HTCLError, match="a%20b/tables/counts: no table can lie below a path with a percent sign"):
        GrowingTable(f"{tmp_path}/a%20b", "counts", SCHEMA)


def test_of_two_writers_from_one_version_the_second_conflicts(table):
    table.replace_rows(rows(("a", 1), ("b", 2)))
    second = deltalake.DeltaTable(table.uri)
    table.replace_rows(rows(("a", 3)), ["a"])
    with pytest.raises(CommitFailedError, match="concurrent transaction"):
        second.create_write_transaction(
            [], "overwrite", deltalake.Schema.from_arrow(SCHEMA), ["dt"], [("dt", "in", ["a"])]
        )
    assert content(table) == [("a", 3), ("b", 2)]


@pytest.mark.parametrize("first", [True, False], ids=["empty", "filled"])
def test_writers_of_different_partitions_at_once_all_arrive(table, first):
    if not first:
        table.replace_rows(rows(("z", 0)))
    names, errors = ["a", "b", "c", "d"], []
    barrier = threading.Barrier(len(names), timeout=60)

    def writer(name):
        try:
            barrier.wait()
            table.replace_rows(rows((name, 1)), [name])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=writer, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert content(table) == [(name, 1) for name in names] + ([] if first else [("z", 0)])


def test_a_commit_that_is_always_overtaken_ends_in_one_sentence(table, monkeypatch):
    def overtaken(*_):
        raise CommitFailedError("a concurrent transaction")

    monkeypatch.setattr(table, "_commit_once", overtaken)
    monkeypatch.setattr(tables.time, "sleep", lambda _: None)
    with pytest.raises(HTCLError, match="table counts: others were faster 5 times; run the step again"):
        table.replace_rows(rows(("a", 1)))


def test_rejects_are_replaced_per_source(tmp_path):
    replace_rejects(str(tmp_path), "audio", [{"key": "a.wav", "reason": "not_audio", "detail": "x"}])
    replace_rejects(str(tmp_path), "catalog", [{"key": "t1", "reason": "missing_title", "dt": None}])
    replace_rejects(str(tmp_path), "audio", [{"key": "b.wav", "reason": "too_short"}])
    table = GrowingTable(str(tmp_path), "rejects", REJECTS, partition_by="source")
    assert sorted((row["source"], row["key"]) for row in table.read().to_pylist()) == [
        ("audio", "b.wav"),
        ("catalog", "t1"),
    ]
    replace_rejects(str(tmp_path), "audio", [])
    assert table.read()["source"].to_pylist() == ["catalog"]


def test_partitions_that_gain_rows_and_partitions_that_are_replaced_are_one_commit(table):
    table.replace_rows(rows(("a", 1), ("b", 2)))
    parts = [table.write(rows((dt, n)), dt) for dt, n in (("a", 3), ("b", 4), ("c", 5))]
    assert table.commit(parts, replace=["b"], append=["a", "c"], base=0) == 1
    assert content(table) == [("a", 1), ("a", 3), ("b", 4), ("c", 5)]
    assert table.commit([table.write(rows(("a", 6)), "a")], replace=[], append=["a"]) == 2
    assert content(table) == [("a", 1), ("a", 3), ("a", 6), ("b", 4), ("c", 5)]


def test_a_partition_that_another_run_has_added_to_meanwhile_is_not_added_to_twice(table):
    base = table.replace_rows(rows(("a", 1), ("b", 2)))
    table.commit([table.write(rows(("a", 3)), "a")], replace=[], append=["a"], base=base)
    with pytest.raises(HTCLError, match="another run has changed it meanwhile"):
        table.commit([table.write(rows(("a", 3)), "a")], replace=[], append=["a"], base=base)
    table.commit([table.write(rows(("b", 3)), "b")], replace=[], append=["b"], base=base)
    assert content(table) == [("a", 1), ("a", 3), ("b", 2), ("b", 3)]
