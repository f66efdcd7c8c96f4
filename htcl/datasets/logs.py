"""Which rows of a log are events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htcl.datasets.dataset import Events, Found, Rejected
from htcl.ingest.times import parse_times
from htcl.schemas import INTERACTIONS

_REASONS = {
    "user_id": ("missing_user_id", "no user id"),
    "track_id": ("missing_track_id", "no track id"),
    "ts": ("bad_ts", "no time, or none that can be read"),
}
"""Column -> reason and detail where it lacks; the details quote no cell."""


@dataclass(frozen=True)
class LogBatch:
    """Rows of one file of a log.

    Attributes:
        file: its name.
        rows: columns of text, empty cells as null [n]; `ts` may be of any type that holds times.
        lines: place of each row in the file, from 1 [n].
        malformed: places of rows that had more or fewer cells than columns.
    """

    file: str
    rows: pa.Table
    lines: npt.NDArray[np.int64]
    malformed: Sequence[int] = ()


def events(batch: LogBatch, event_type: str) -> Iterator[Found]:
    """Tell the events of a batch from rows that lack user, song or time.

    Args:
        batch: with the columns user_id, track_id, ts, and others of the log contract.
        event_type: what the users did.

    Times that name no zone are UTC.
    """
    columns = {name: batch.rows[name] for name in INTERACTIONS.names if name in batch.rows.column_names}
    columns |= {name: _trimmed(columns[name]) for name in ("user_id", "track_id")}
    columns |= {"ts": parse_times(columns["ts"], "UTC"), "event_type": pa.repeat(event_type, len(batch.rows))}
    lacking = {name: pc.is_null(columns[name]) for name in _REASONS}
    good = pc.invert(pc.or_(pc.or_(lacking["user_id"], lacking["track_id"]), lacking["ts"]))
    yield Events(pa.table(columns).filter(good))
    for line in batch.malformed:
        yield Rejected("interactions", f"{batch.file}:{line}", "malformed_row", "more or fewer cells than columns")
    for place in np.flatnonzero(~np.asarray(good)):
        name = next(name for name in _REASONS if lacking[name][place].as_py())
        yield Rejected("interactions", f"{batch.file}:{batch.lines[place]}", *_REASONS[name])


def _trimmed(column: pa.ChunkedArray) -> pa.Array:
    """Ids without outer blanks, as those of the tracks are; blank is null."""
    text = pc.utf8_trim_whitespace(column.combine_chunks())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
