"""Listeners' histories, read from the log for an evaluation and kept in memory only: they are personal data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htcl.config import PipelineConfig
from htcl.evaluation.metrics import RowSets
from htcl.ingest.log import read_log_file
from htcl.logs import Progress, get_logger, log
from htcl.pairs.baskets import basket_numbers, liked
from htcl.pairs.judging import Rules, judge
from htcl.pairs.partition import distinct_events
from htcl.pairs.units import log_files, units_of
from htcl.users import forgotten_users, load_user_key

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Histories:
    """Positive responses of listeners, [n] rows ascending by (listener, ts).

    Attributes:
        listener: number of the listener, dense from 0.
        song: row among the candidates.
        ts: microseconds since 1970, UTC.
        listeners: how many there are.
    """

    listener: Int64
    song: Int64
    ts: Int64
    listeners: int

    def part(self, rows: npt.NDArray[np.bool_]) -> Histories:
        """Some of the responses; listeners keep their numbers."""
        return Histories(self.listener[rows], self.song[rows], self.ts[rows], self.listeners)

    def sets(self) -> RowSets:
        """Distinct songs of each listener, in the order in which they were last liked."""
        key = self.listener * (self.song.max(initial=0) + 1) + self.song
        _, from_end = np.unique(key[::-1], return_index=True)
        last = np.sort(len(key) - 1 - from_end)  # rows are ascending by listener and time
        counts = np.bincount(self.listener[last], minlength=self.listeners)
        return RowSets(np.concatenate([[0], np.cumsum(counts)]), self.song[last])


def read_histories(config: PipelineConfig, tracks: list[str], most: int) -> Histories:
    """Read what listeners responded to positively, repeated events and songs refused in the same basket left out.

    Args:
        config: reads `interactions`, `pairs` and the workspace's user key.
        tracks: candidates, sorted; other songs are passed over.
        most: listeners at most; those with the least hashes, which is a random sample that stays the same.

    Raises:
        HTCLError: naming the file that cannot be read.
    """
    held: list[pa.Table] = []
    users = np.zeros(0, np.int64)
    limit = np.iinfo(np.int64).max
    for events in _judged(config):
        held.append(events.filter(pc.less_equal(events["user"], limit)))
        users = np.union1d(users, held[-1]["user"].to_numpy())
        if len(users) > most:
            if limit == np.iinfo(np.int64).max:
                log(get_logger("report_card"), "more listeners than report_card.listeners: a sample of them", most=most)
            users = users[:most]
            limit = int(users[-1])
            held = [table.filter(pc.less_equal(table["user"], limit)) for table in held]
    part = distinct_events(pa.concat_tables(held).unify_dictionaries().combine_chunks())
    numbers = basket_numbers(part.events, config.pairs.session_gap_minutes)
    events = part.events.take(liked(part.events, numbers))
    place = np.asarray(pc.fill_null(pc.index_in(part.songs, value_set=pa.array(tracks)), -1)).astype(np.int64)
    song = place[events.track]
    known = song >= 0
    users, listener = np.unique(events.user[known], return_inverse=True)
    return Histories(listener.astype(np.int64), song[known], events.ts[known], len(users))


def _judged(config: PipelineConfig) -> Iterator[pa.Table]:
    """Good events of the log, a batch at a time."""
    format_, files = log_files(config.interactions)
    forgotten = frozenset(forgotten_users(config.workspace))
    rules = Rules(config.interactions, load_user_key(config.workspace), forgotten, dt.datetime.now(dt.UTC))
    units = units_of(config.interactions, format_, list(files.values()))
    progress = Progress(get_logger("report_card"), "log files", len(units))
    for number, unit in enumerate(units, start=1):
        for rows in read_log_file(unit.uri, format_, config.interactions, unit.row_groups):
            yield judge(rows, rules, unit.file).events
        progress.update(number)


def last_songs(histories: RowSets, count: int) -> RowSets:
    """The last `count` songs of each set."""
    sizes = np.minimum(np.diff(histories.indptr), count)
    ends = histories.indptr[1:]
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    places = np.arange(int(indptr[-1])) + np.repeat(ends - sizes - indptr[:-1], sizes)
    return RowSets(indptr, histories.indices[places])
