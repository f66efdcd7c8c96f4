"""Runs over several worlds and seeds as one: a query counts once, however many seeds were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from htcl.config import EvaluationConfig
from htcl.evaluation.bootstrap import Interval, paired_difference
from htcl.evaluation.metrics import FloatArray
from htcl.evaluation.results import PER_QUERY_SCHEMA, Result, shared_queries, summarise
from htcl.report_card.answers import RunAnswers
from htcl.report_card.tasks import DECILES

Figure = tuple[str, str, str]
"""Task, split and metric."""

_KEYS = ["system", "task", "split", "metric", "query"]


@dataclass(frozen=True)
class Spread:
    """How far the means of single runs lie apart: a figure's deviation over them, from `runs` of them."""

    deviation: float
    runs: int


@dataclass(frozen=True)
class Pooled:
    """The figures of all runs together.

    Attributes:
        per_query: rows of PER_QUERY_SCHEMA; a query is named after its data, its value the mean over seeds.
        results: every figure with its interval.
        runs: the same of each run alone.
        spreads: (system, task, split, metric) -> spread over runs; with one run there is none.
        deciles: rows of DECILES, weighted by songs.
    """

    per_query: pa.Table
    results: list[Result]
    runs: list[pa.Table]
    spreads: dict[tuple[str, str, str, str], Spread]
    deciles: pa.Table


def pool(runs: Sequence[RunAnswers], config: EvaluationConfig) -> Pooled:
    """Put runs together.

    Args:
        runs: of any worlds and seeds.
        config: how intervals are drawn.
    """
    tables = [_named(run) for run in runs]
    means = pa.concat_tables(tables).group_by(_KEYS).aggregate([("value", "mean")])
    per_query = pa.table({**{name: means[name] for name in _KEYS}, "value": means["value_mean"]}, PER_QUERY_SCHEMA)
    results = summarise(per_query, config.confidence, config.bootstrap_samples, config.seed) + _of_sets(runs)
    return Pooled(per_query, results, tables, _spreads(tables), _deciles([run.answers.deciles for run in runs]))


def _named(run: RunAnswers) -> pa.Table:
    """Queries under the name of their data."""
    table = run.answers.per_query
    named = pc.binary_join_element_wise(pa.scalar(run.data), table["query"], "/")
    return table.set_column(table.column_names.index("query"), "query", named)


def _of_sets(runs: Sequence[RunAnswers]) -> list[Result]:
    """Figures that no query has: means over runs, of their bounds too, which makes intervals rather too wide."""
    found: dict[tuple[str, str, str, str], list[Result]] = {}
    counts: dict[tuple[str, str, str, str], dict[str, int]] = {}
    for run in runs:
        for result in run.answers.of_sets:
            key = (result.system, result.task, result.split, result.metric)
            found.setdefault(key, []).append(result)
            counts.setdefault(key, {})[run.data] = result.n  # seeds ask the same songs
    return [
        Result(
            *key,
            value=float(np.mean([each.value for each in results])),
            low=float(np.mean([each.low for each in results])),
            high=float(np.mean([each.high for each in results])),
            n=sum(counts[key].values()),
        )
        for key, results in found.items()
    ]


def _spreads(tables: Sequence[pa.Table]) -> dict[tuple[str, str, str, str], Spread]:
    values: dict[tuple[str, str, str, str], list[float]] = {}
    for table in tables:
        for row in table.group_by(_KEYS[:-1]).aggregate([("value", "mean")]).to_pylist():
            key = (row["system"], row["task"], row["split"], row["metric"])
            values.setdefault(key, []).append(row["value_mean"])
    return {key: Spread(float(np.std(each, ddof=1)), len(each)) for key, each in values.items() if len(each) > 1}


def _deciles(tables: Sequence[pa.Table]) -> pa.Table:
    rows = pa.concat_tables(tables)
    weighted = rows.append_column("found", pc.multiply(rows["recall_at_10"], pc.cast(rows["n"], pa.float64())))
    keys = DECILES.names[:4]
    sums = weighted.group_by(keys).aggregate([("found", "sum"), ("n", "sum")]).sort_by([(k, "ascending") for k in keys])
    recall = pc.divide(sums["found_sum"], pc.cast(sums["n_sum"], pa.float64()))
    return pa.table([*(sums[key] for key in keys), recall, sums["n_sum"]], schema=DECILES)


def compared(
    pooled: Pooled, a: str, b: str, figure: Figure, config: EvaluationConfig, share: float = 1.0
) -> Interval | None:
    """Paired difference a - share x b over what both answered; None without any.

    Args:
        pooled: from `pool`.
        a: a system.
        b: another.
        figure: task, split and metric.
        config: how the interval is drawn.
        share: of b.
    """
    left, right = _shared(pooled.per_query, a, b, figure)
    if not len(left):
        return None
    samples = config.bootstrap_samples
    return paired_difference(left, share * right, confidence=config.confidence, samples=samples, seed=config.seed)


def differences(pooled: Pooled, a: str, b: str, figure: Figure) -> list[float]:
    """Mean difference a - b in each run in which both answered: how much of it hangs on one training or world."""
    pairs = [_shared(table, a, b, figure) for table in pooled.runs]
    return [float((left - right).mean()) for left, right in pairs if len(left)]


def _shared(table: pa.Table, a: str, b: str, figure: Figure) -> tuple[FloatArray, FloatArray]:
    one, other = (table.filter(pc.field("system") == system) for system in (a, b))
    return shared_queries(one, other, *figure)
