"""Sorting by several integer columns at once, and the runs of equal rows that it leaves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]


def sort_order(*columns: npt.NDArray[np.integer]) -> Rows:
    """Rows in ascending order of integer columns [n], the first being the most significant.

    Where the columns' ranges fit into 63 bits together, they are sorted as one number, which is several times faster.
    Rows that are equal in all columns come in any order.
    """
    packed = _packed(columns)
    return np.lexsort(columns[::-1]) if packed is None else np.argsort(packed)


def _packed(columns: tuple[npt.NDArray[np.integer], ...]) -> Int64 | None:
    if not len(columns[0]):
        return np.zeros(0, dtype=np.int64)
    lows = [int(column.min()) for column in columns]
    widths = [(int(column.max()) - low).bit_length() for column, low in zip(columns, lows, strict=True)]
    if sum(widths) > 63:
        return None
    packed = np.zeros(len(columns[0]), dtype=np.int64)
    for column, low, width in zip(columns, lows, widths, strict=True):
        packed <<= width
        packed |= column.astype(np.int64) - low
    return packed


def ranks(values: Int64) -> Int64:
    """Numbers from 0 in place of values [n], in their order: small enough to be sorted with others."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def run_starts(*columns: npt.NDArray[np.generic]) -> Rows:
    """First row of each run of equal values in columns [n] that are sorted together."""
    if not len(columns[0]):
        return np.zeros(0, dtype=np.intp)
    change = np.zeros(len(columns[0]), dtype=bool)
    change[0] = True
    for column in columns:
        change[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(change)


def run_lengths(starts: Rows, total: int) -> Int64:
    """Rows of each run [runs], given where runs start in `total` rows."""
    return np.diff(np.append(starts, total)).astype(np.int64)


def run_sums(values: Int64, starts: Rows) -> Int64:
    """Sum of each run [runs]."""
    return np.asarray(np.add.reduceat(values, starts)) if len(starts) else values[:0]


def run_numbers(starts: Rows, total: int) -> Int64:
    """Number of the run that each of `total` rows is in, from 0."""
    return np.repeat(np.arange(len(starts), dtype=np.int64), run_lengths(starts, total))


def mixed(a: Int64, b: Int64) -> npt.NDArray[np.uint64]:
    """A well-spread hash of two numbers [n], the same on every machine (the finaliser of MurmurHash3)."""
    value = a.astype(np.uint64) ^ (b.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value ^= value >> np.uint64(33)
        value *= np.uint64(factor)
    return np.asarray(value ^ (value >> np.uint64(33)))
