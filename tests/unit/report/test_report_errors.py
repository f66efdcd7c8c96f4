"""Which songs are shown as errors and as examples."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl.evaluation.results import per_query_table
from htcl.pairs import QUALITY_FOLDER
from htcl.report.errors import example_songs, worst_texts
from htcl.report.quality import quality_rows


def table(*rows):
    return pa.concat_tables(
        [
            per_query_table(system, task, split, list(values), {metric: list(values.values())})
            for system, task, split, metric, values in rows
        ]
    )


def test_the_songs_that_are_found_latest_come_first():
    ranks = {f"t{n}": float(n) for n in range(9)}
    figure = ("text_to_audio", "test", "median_rank")
    found = worst_texts(
        table(("stage2", *figure, ranks), ("stage1", *figure, {"t1": 99.0})),
        lambda track: (track.upper(), "calm"),
    )
    assert [(row.track_id, row.rank, row.of) for row in found] == [(f"t{n}", n, 9) for n in (8, 7, 6, 5, 4)]
    assert (found[0].title, found[0].text) == ("T8", "calm")


def test_examples_are_the_best_the_middle_and_the_worst_of_what_both_stages_answered():
    before = {"a": 0.1, "b": 0.5, "c": 0.5, "d": 0.2}
    after = {"a": 0.9, "b": 0.5, "c": 0.1}
    figure = ("song_to_song", "cold", "ndcg_at_10")
    found = example_songs(table(("stage1", *figure, before), ("stage2", *figure, after)))
    assert [(why, track) for why, track, _ in found] == [("largest gain", "a"), ("middle", "b"), ("largest loss", "c")]
    assert [gain for *_, gain in found] == pytest.approx([0.8, 0.0, -0.4])
    assert example_songs(table(("stage1", *figure, before))) == []


def test_days_of_the_log_are_summed_up_and_drawn(tmp_path):
    columns = {
        "dt": ["2025-03-01", "2025-03-03", "2025-03-01", "2025-03-02", None],
        "measure": ["events", "events", "rejects", "events", "gini"],
        "name": ["play", "play", "bad_ts", "like", "popularity"],
        "value": [10.0, 30.0, 2.0, 1.0, 0.5],
    }
    (tmp_path / QUALITY_FOLDER).mkdir()
    pq.write_table(pa.table(columns), tmp_path / QUALITY_FOLDER / "part.parquet")
    found = quality_rows(tmp_path)
    assert [(row.measure, row.name, row.total, row.median, row.least, row.most) for row in found] == [
        ("events", "play", 40, 10.0, 0, 30),
        ("events", "like", 1, 0.0, 0, 1),
        ("rejects", "bad_ts", 2, 0.0, 0, 2),
    ]
    assert found[0].spark.startswith("M0 ") and found[0].spark.count("L") == 2
