"""Daily counts of one bucket to sums over a window: decayed counts, distinct users, by part of the window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from htcl import storage
from htcl.pairs.blocks import COUNTS, table_counts
from htcl.pairs.counting import FIGURES, ITEM, SOURCES, WEIGHT_ONE, Counts, add_up, take
from htcl.pairs.quality import day_number, iso_day
from htcl.pairs.sketches import count_users, merge_sketches
from htcl.pairs.sorting import Int64, run_starts, sort_order
from htcl.pairs.store import pair_table
from htcl.parts import Part

ALL, BEFORE, AFTER = "all", "before", "after"
"""Parts of the window: whole, before the cut-off, from the cut-off on."""

SUMS = pa.schema(
    [
        ("period", pa.string()),
        ("source", pa.string()),
        ("anchor_id", pa.string()),
        ("positive_id", pa.string()),
        ("n_baskets", pa.int64()),
        ("n", pa.float64()),
        ("weight", pa.float64()),
        ("n_negative", pa.float64()),
        ("n_impressions", pa.float64()),
        ("n_users", pa.int64()),
        ("last_dt", pa.string()),
    ]
)
"""Sums of one pair over one part of the window: baskets as they are and, from `n` on, decayed to its newest day."""


_ALONE = {"use_threads": False, "pre_buffer": False}
"""How tasks read: they have one core, and of many small files starting threads would be most of the work."""


@dataclass(frozen=True)
class Window:
    """What is summed.

    Attributes:
        workspace: where the counts lie.
        first: first day.
        newest: newest day; decay counts from it.
        cutoff: first day that is kept for warm test pairs.
        half_life_days: age at which a basket counts half; None for never.
        min_users: distinct users that a pair needs in a part of the window.
        symmetric: sources whose pairs count both ways.
    """

    workspace: str
    first: str
    newest: str
    cutoff: str
    half_life_days: float | None
    min_users: int
    symmetric: tuple[str, ...]

    def inside(self, parts: Iterable[Part]) -> list[Part]:
        """The files of its days."""
        return [part for part in parts if self.first <= str(part.partition) <= self.newest]


def sum_bucket(window: Window, parts: Sequence[Part]) -> pa.Table:
    """Rows of SUMS of one bucket; pairs of too few users are left out.

    Args:
        window: what is summed.
        parts: the bucket's files, all of days of the window.
    """
    if not parts:
        return SUMS.empty_table()
    counts, songs = _read(window, parts)
    counts = _one_way(counts, window.symmetric)
    cutoff = day_number(window.cutoff)
    before, after = np.flatnonzero(counts.day < cutoff), np.flatnonzero(counts.day >= cutoff)
    every = _summed(ALL, counts, songs, window)
    split = [_summed(name, take(counts, rows), songs, window) for name, rows in ((BEFORE, before), (AFTER, after))]
    return pa.concat_tables([every, *split])


def _read(window: Window, parts: Sequence[Part]) -> tuple[Counts, pa.Array]:
    """Rows of all files, their songs coded."""
    table = pair_table(window.workspace)
    fs, root = storage.filesystem(table.uri)
    blocks = []
    for part in parts:
        with fs.open(storage.join(root, part.path), "rb") as handle:
            rows = pq.read_table(handle, read_dictionary=["anchor_id", "positive_id"], **_ALONE)
        blocks.append(_as_counts(rows, day_number(str(part.partition))))
    return table_counts(pa.concat_tables(blocks))


def _as_counts(rows: pa.Table, day: int) -> pa.Table:
    """Rows of PAIR_COUNTS of one day as rows of COUNTS."""
    source = pc.index_in(rows["source"], value_set=pa.array(SOURCES))
    columns = [pa.array(np.full(len(rows), day, dtype=np.int32)), source, rows["anchor_id"], rows["positive_id"]]
    figures = [rows[name] for name in COUNTS.names[4:]]
    return pa.table([*columns, *figures], names=COUNTS.names).cast(COUNTS)


def _one_way(counts: Counts, symmetric: Sequence[str]) -> Counts:
    """Pairs that count both ways as one, the lesser song first, each day on its own."""
    turned = np.isin(counts.source, [SOURCES.index(name) for name in symmetric]) & (counts.anchor > counts.positive)
    if not turned.any():
        return counts
    anchor = np.where(turned, counts.positive, counts.anchor)
    positive = np.where(turned, counts.anchor, counts.positive)
    # As whole numbers, whose sums are the same in any order.
    return add_up([replace(counts, anchor=anchor, positive=positive)])


def _summed(period: str, counts: Counts, songs: pa.Array, window: Window) -> pa.Table:
    # In the order of days, so that sums of decayed counts are the same in whichever files the days lie.
    counts = take(counts, sort_order(counts.source, counts.anchor, counts.positive, counts.day))
    starts = run_starts(counts.source, counts.anchor, counts.positive)
    if not len(starts):
        return SUMS.empty_table()
    decay = _decay(counts.day, window)
    users = count_users(*merge_sketches(counts.users, counts.offsets, starts))
    last = np.maximum.reduceat(counts.day, starts)
    kept = (users >= window.min_users) | (counts.source[starts] == ITEM)
    sums = np.add.reduceat(counts.figures * decay, starts, axis=1)[:, kept]
    sums[FIGURES.index("weight")] /= WEIGHT_ONE
    anchor, positive = (pa.array(code[starts][kept]) for code in (counts.anchor, counts.positive))
    return pa.table(
        [
            pa.repeat(period, int(kept.sum())),
            pa.array(SOURCES).take(pa.array(counts.source[starts][kept])),
            songs.take(anchor),
            songs.take(positive),
            pa.array(np.add.reduceat(counts.figures[0], starts)[kept]),
            *(pa.array(column) for column in sums),
            pa.array(users[kept]),
            _iso(last[kept]),
        ],
        schema=SUMS,
    )


def _decay(day: Int64, window: Window) -> npt.NDArray[np.float64]:
    if not window.half_life_days:
        return np.ones(len(day))
    return np.asarray(0.5 ** ((day_number(window.newest) - day) / window.half_life_days), dtype=np.float64)


def _iso(days: Int64) -> pa.Array:
    found, places = np.unique(days, return_inverse=True)
    return pa.array([iso_day(day) for day in found.tolist()], pa.string()).take(pa.array(places))


def day_totals(workspace: str, parts: Iterable[Part]) -> dict[str, int]:
    """Songs in baskets of each day of some files: what the cut-off is found by."""
    table = pair_table(workspace)
    fs, root = storage.filesystem(table.uri)
    totals: dict[str, int] = {}
    for part in parts:
        with fs.open(storage.join(root, part.path), "rb") as handle:
            rows = pq.read_table(handle, columns=["n_baskets", "source"], **_ALONE)
        items = rows.filter(pc.equal(rows["source"], SOURCES[ITEM]))["n_baskets"]
        day = str(part.partition)
        totals[day] = totals.get(day, 0) + int(pc.sum(items, min_count=0).as_py())
    return totals
