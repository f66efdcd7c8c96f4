"""Percentile bootstrap over queries (Efron & Tibshirani 1993): what depends on the queries drawn."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from htcl.evaluation.metrics import FloatArray

Statistic = Literal["mean", "median"]

# Resampled values held at once: 32 MiB as float64.
BLOCK_VALUES = 2**22


@dataclass(frozen=True)
class Interval:
    """A figure over ``n`` queries and its bootstrap interval; with one query the interval has no width."""

    value: float
    low: float
    high: float
    n: int


def interval(
    values: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
    statistic: Statistic = "mean",
) -> Interval:
    """The statistic of ``values`` [n], one per query, with its percentile interval.

    Raises ValueError for no values, or values that are not finite.
    """
    columns = _finite_columns(values)
    return _percentiles(
        _statistic(columns, statistic)[0],
        _resampled(columns, samples, seed, statistic)[:, 0],
        confidence,
        len(columns),
    )


def paired_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
    statistic: Statistic = "mean",
) -> Interval:
    """statistic(a) - statistic(b), where ``a[i]`` and ``b[i]`` [n] are two systems on the same query i.

    Both are resampled together, so what makes a query hard for both cancels out. Align tables by their query
    with ``results.shared_queries``. Raises ValueError as ``interval``, and for arrays of unequal length.
    """
    columns = _finite_columns(a, b)
    resampled = _resampled(columns, samples, seed, statistic)
    value = _statistic(columns, statistic)
    return _percentiles(value[0] - value[1], resampled[:, 0] - resampled[:, 1], confidence, len(columns))


def _finite_columns(*values: npt.ArrayLike) -> FloatArray:
    """The arrays side by side: float64 [n, arrays]."""
    arrays = [np.asarray(array, np.float64) for array in values]
    if len({len(array) for array in arrays}) > 1:
        raise ValueError("paired values differ in length: align both systems on their shared queries")
    columns = np.stack(arrays, axis=1)
    if len(columns) == 0:
        raise ValueError("no values to resample: check that the split has queries")
    if not np.isfinite(columns).all():
        raise ValueError("values contain NaN or infinity: evaluate the system again")
    return columns


def _resampled(columns: FloatArray, samples: int, seed: int, statistic: Statistic) -> FloatArray:
    """The statistic of each column in each resample of the rows: float64 [samples, columns]."""
    rng = np.random.default_rng(seed)
    n = len(columns)
    step = max(1, BLOCK_VALUES // columns.size)
    blocks = []
    for start in range(0, samples, step):
        draws = rng.integers(n, size=(n, min(step, samples - start)))
        blocks.append(_statistic(columns[draws], statistic))
    return np.concatenate(blocks)


def _statistic(values: FloatArray, statistic: Statistic) -> FloatArray:
    """Over the first axis, which is the queries."""
    return np.asarray(np.mean(values, axis=0) if statistic == "mean" else np.median(values, axis=0), np.float64)


def _percentiles(value: float, resampled: FloatArray, confidence: float, n: int) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high), n)
