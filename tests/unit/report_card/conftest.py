"""Answers of runs as small tables."""

import pyarrow as pa
import pytest

from htcl.evaluation.results import Result, per_query_table
from htcl.report_card.answers import RunAnswers
from htcl.report_card.tasks import DECILES, Answers


@pytest.fixture
def run():
    """A function: data, {(system, task, split, metric): {query: value}} -> answers."""

    def make(data, figures, of_sets=(), deciles=()):
        tables = [
            per_query_table(system, task, split, list(values), {metric: list(values.values())})
            for (system, task, split, metric), values in figures.items()
        ]
        sets = [Result(*key, *values) for key, values in dict(of_sets).items()]
        rows = pa.Table.from_pylist([dict(zip(DECILES.names, row, strict=True)) for row in deciles], schema=DECILES)
        return RunAnswers(data, Answers(pa.concat_tables(tables), sets, rows), {"songs": 9})

    return make
