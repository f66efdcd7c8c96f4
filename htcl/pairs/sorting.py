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
    packing = _packing(columns)
    return np.lexsort(columns[::-1]) if packing is None else np.argsort(_packed(columns, packing))


def sorted_columns(*columns: Int64) -> list[Int64]:
    """The rows of integer columns [n] in ascending order: as `sort_order`, but without going through row numbers."""
    packing = _packing(columns)
    if packing is None:
        order = sort_order(*columns)
        return [column[order] for column in columns]
    packed = np.sort(_packed(columns, packing))
    found = []
    for low, width in reversed(packing):
        found.append((packed & ((1 << width) - 1)) + low)
        packed >>= width
    return found[::-1]


def _packing(columns: tuple[npt.NDArray[np.integer], ...]) -> list[tuple[int, int]] | None:
    """(least value, bits) of each column where all fit into 63 bits."""
    if not len(columns[0]):
        return [(0, 0)] * len(columns)
    lows = [int(column.min()) for column in columns]
    widths = [(int(column.max()) - low).bit_length() for column, low in zip(columns, lows, strict=True)]
    return None if sum(widths) > 63 else list(zip(lows, widths, strict=True))


def _packed(columns: tuple[npt.NDArray[np.integer], ...], packing: list[tuple[int, int]]) -> Int64:
    packed: Int64 = np.zeros(len(columns[0]), dtype=np.int64)
    for column, (low, width) in zip(columns, packing, strict=True):
        packed <<= width
        packed |= column.astype(np.int64, copy=False) - low
    return np.asarray(packed, dtype=np.int64)


def ranks(values: Int64) -> Int64:
    """Numbers in place of values [n], in their order: small enough to be sorted with others."""
    if len(values) and int(values.max()) - int(values.min()) < 1 << 24:
        return np.asarray(values - values.min())
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
