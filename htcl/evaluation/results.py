"""Evaluation results as long tables: one row per query, and one row per figure with its interval."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from htcl.evaluation.bootstrap import Statistic, interval
from htcl.evaluation.metrics import FloatArray

LOST = "without_direction"
"""Figure of an evaluation: embeddings of stage 2, of songs and texts, that are zero, NaN or infinite."""
PER_QUERY_FILE = "per_query.parquet"
RESULTS_FILE = "results.parquet"

Task = str
"""text_to_audio, audio_to_text, song_to_song; in the report card also user_to_song by the whole history,
user_to_song_recent by its last songs, and probe_linear_FIELD, probe_mlp_FIELD, zero_shot_FIELD."""
Split = str
"""test: held-out songs; cold: held-out anchors; cold_artist: those by artists of whom training saw nothing; warm: known
songs after the cut-off; validation."""

SYSTEMS = ("random", "popularity", "text alone", "stage1", "stage2")
"""What is compared, in the order of tables."""

_ORDER = (
    ("text_to_audio", "audio_to_text", "song_to_song", "user_to_song", "user_to_song_recent"),
    ("test", "cold", "cold_artist", "warm", "validation"),
    (
        "recall_at_1",
        "recall_at_5",
        "recall_at_10",
        "recall_at_50",
        "ndcg_at_10",
        "ndcg_at_50",
        "hit_rate_at_10",
        "hit_rate_at_50",
        "precision_at_50",
        "mrr",
        "median_rank",
        "average_popularity",
        "catalog_coverage",
    ),
)
"""Tasks, splits and metrics in the order of tables."""

_FIGURE = [("system", pa.string()), ("task", pa.string()), ("split", pa.string()), ("metric", pa.string())]

# query: the track_id of the query song, by which runs are compared later.
PER_QUERY_SCHEMA = pa.schema([*_FIGURE, ("query", pa.string()), ("value", pa.float64())])

RESULT_SCHEMA = pa.schema(
    [*_FIGURE, ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64()), ("n", pa.int64())]
)


@dataclass(frozen=True)
class Result:
    """One figure: the mean over ``n`` queries (median_rank: the median), within its bootstrap interval."""

    system: str
    task: Task
    split: Split
    metric: str
    value: float
    low: float
    high: float
    n: int


def to_table(results: Iterable[Result]) -> pa.Table:
    """One row per result, in RESULT_SCHEMA."""
    return pa.Table.from_pylist([asdict(result) for result in results], schema=RESULT_SCHEMA)


def from_table(table: pa.Table) -> list[Result]:
    """The inverse of ``to_table``."""
    return [Result(**row) for row in table.select(RESULT_SCHEMA.names).to_pylist()]


def per_query_table(
    system: str, task: Task, split: Split, queries: Iterable[str], metrics: Mapping[str, FloatArray]
) -> pa.Table:
    """The values that an ``evaluate_...`` function returned, in PER_QUERY_SCHEMA; join with pa.concat_tables.

    ``queries``: the track_id of each query, [n]; ``metrics``: float64 [n] by name. Raises ValueError if a
    metric has another length, or a query occurs twice.
    """
    keys = pa.array(queries, pa.string())
    if pc.count_distinct(keys).as_py() < len(keys):
        raise ValueError(f"system {system!r}: a query of {task} ({split}) occurs twice: one query per anchor")
    tables = [PER_QUERY_SCHEMA.empty_table()]
    for metric, values in metrics.items():
        if len(values) != len(keys):
            raise ValueError(f"system {system!r}: {len(values)} values of {metric} for {len(keys)} queries")
        figure = [pa.repeat(pa.scalar(name), len(keys)) for name in (system, task, split, metric)]
        tables.append(pa.table([*figure, keys, pa.array(values, pa.float64())], schema=PER_QUERY_SCHEMA))
    return pa.concat_tables(tables)


def summarise(per_query: pa.Table, confidence: float = 0.95, samples: int = 2000, seed: int = 0) -> list[Result]:
    """One result per (system, task, split, metric) of a per-query table, in the order of tables.

    Raises ValueError, naming the figure, for values that are not finite.
    """
    names = [name for name, _ in _FIGURE]
    figures = per_query.group_by(names).aggregate([])
    results = []
    for figure in sorted(figures.to_pylist(), key=_place):
        chosen = pc.scalar(True)
        for name in names:
            chosen = chosen & (pc.field(name) == figure[name])
        values = per_query.filter(chosen)["value"].to_numpy()
        statistic: Statistic = "median" if figure["metric"] == "median_rank" else "mean"
        try:
            found = interval(values, confidence=confidence, samples=samples, seed=seed, statistic=statistic)
        except ValueError as error:
            raise ValueError(f"{' '.join(figure.values())}: {error}") from error
        results.append(Result(**figure, **asdict(found)))
    return results


def _place(figure: Mapping[str, str]) -> list[tuple[int, str]]:
    """Names that have no place in the order of tables come last."""
    orders = zip(("task", "split", "metric", "system"), (*_ORDER, SYSTEMS), strict=True)
    return [
        (order.index(figure[name]) if figure[name] in order else len(order), figure[name]) for name, order in orders
    ]


def markdown_table(results: Sequence[Result], systems: Sequence[str]) -> str:
    """Figures with their intervals, one column a system."""
    found = {(r.system, r.task, r.split, r.metric): r for r in results}
    lines = [f"| task | split | metric | {' | '.join(systems)} |", f"|---|---|---|{'---:|' * len(systems)}"]
    for task, split, metric in dict.fromkeys((r.task, r.split, r.metric) for r in results):
        cells = [_cell(found.get((system, task, split, metric))) for system in systems]
        n = next(r.n for r in results if (r.task, r.split, r.metric) == (task, split, metric))
        lines.append(f"| {task} | {split} (n={n}) | {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(result: Result | None) -> str:
    if result is None:
        return "–"
    digits = 0 if result.metric == "median_rank" else 3
    return f"{result.value:.{digits}f} [{result.low:.{digits}f}, {result.high:.{digits}f}]"


def shared_queries(a: pa.Table, b: pa.Table, task: Task, split: Split, metric: str) -> tuple[FloatArray, FloatArray]:
    """Values of one metric in two per-query tables on the queries that both have: two float64 [shared].

    Each table must hold one system. Raises ValueError if a query occurs twice in one.
    """
    (keys_a, values_a), (keys_b, values_b) = (query_values(table, task, split, metric) for table in (a, b))
    _, at_a, at_b = np.intersect1d(keys_a, keys_b, assume_unique=True, return_indices=True)
    return values_a[at_a], values_b[at_b]


def query_values(table: pa.Table, task: Task, split: Split, metric: str) -> tuple[np.ndarray, FloatArray]:
    """Queries [n] and values [n] of one metric in a per-query table of one system.

    Raises ValueError if a query occurs twice.
    """
    rows = table.filter((pc.field("task") == task) & (pc.field("split") == split) & (pc.field("metric") == metric))
    keys = rows["query"].to_numpy().astype(str)
    if len(np.unique(keys)) < len(keys):
        systems = sorted(pc.unique(rows["system"]).to_pylist())
        raise ValueError(
            f"a query of {task} {metric} ({split}) occurs twice in a table of the systems {systems}: "
            "filter the table to one system before comparing"
        )
    return keys, rows["value"].to_numpy()
