import numpy as np
import pyarrow as pa
import pytest

from htcl.evaluation.results import (
    PER_QUERY_SCHEMA,
    RESULT_SCHEMA,
    Result,
    from_table,
    per_query_table,
    shared_queries,
    summarise,
    to_table,
)


def test_results_survive_the_table():
    results = [Result("stage2", "song_to_song", "cold", "mrr", 0.3, 0.2, 0.4, 50)]
    table = to_table(results)
    assert table.schema == RESULT_SCHEMA
    assert from_table(table) == results
    assert from_table(to_table([])) == []


def test_a_per_query_table_is_long_and_summed_up_by_figure():
    metrics = {"recall_at_1": np.array([0.0, 1, 1, 1]), "median_rank": np.array([5.0, 1, 1, 1])}
    tables = [
        per_query_table(system, "text_to_audio", "test", ["a", "b", "c", "d"], metrics)
        for system in ("stage2", "stage1")
    ]
    table = pa.concat_tables(tables)
    assert table.schema == PER_QUERY_SCHEMA
    assert table.num_rows == 16
    results = summarise(table, samples=200)
    assert [(r.system, r.metric) for r in results] == [
        ("stage1", "recall_at_1"),
        ("stage2", "recall_at_1"),
        ("stage1", "median_rank"),
        ("stage2", "median_rank"),
    ]
    assert [r.value for r in results] == [0.75, 0.75, 1, 1]
    assert all(r.low <= r.value <= r.high and r.n == 4 for r in results)


def test_figures_stand_in_the_order_of_tables():
    values = [
        ("song_to_song", "warm", "mrr"),
        ("song_to_song", "cold", "recall_at_50"),
        ("text_to_audio", "test", "own"),
    ]
    tables = [per_query_table("stage2", *figure[:2], ["a"], {figure[2]: np.array([1.0])}) for figure in values]
    results = summarise(pa.concat_tables(tables), samples=10)
    assert [(r.task, r.split, r.metric) for r in results] == values[::-1]


def test_a_figure_with_nan_is_named():
    table = per_query_table("stage2", "song_to_song", "cold", ["a"], {"mrr": np.array([np.nan])})
    with pytest.raises(ValueError, match=r"stage2 song_to_song cold mrr: .*NaN"):
        summarise(table)


def test_shared_queries_are_aligned_by_track():
    a = per_query_table("x", "song_to_song", "cold", ["p", "q", "r"], {"mrr": np.array([1.0, 2, 3])})
    b = per_query_table("x", "song_to_song", "cold", ["r", "s", "p"], {"mrr": np.array([30.0, 40, 10])})
    values_a, values_b = shared_queries(a, b, "song_to_song", "cold", "mrr")
    np.testing.assert_array_equal(values_b, values_a * 10)
    assert len(values_a) == 2
    assert len(shared_queries(a, b, "song_to_song", "warm", "mrr")[0]) == 0


def test_two_systems_in_one_table_cannot_be_compared():
    tables = [per_query_table(s, "song_to_song", "cold", ["p"], {"mrr": np.array([1.0])}) for s in ("x", "random")]
    with pytest.raises(ValueError, match=r"\['random', 'x'\]"):
        shared_queries(pa.concat_tables(tables), tables[0], "song_to_song", "cold", "mrr")


def test_queries_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="occurs twice"):
        per_query_table("x", "song_to_song", "cold", ["p", "p"], {})
    with pytest.raises(ValueError, match="1 values of mrr for 2 queries"):
        per_query_table("x", "song_to_song", "cold", ["p", "q"], {"mrr": np.array([1.0])})
