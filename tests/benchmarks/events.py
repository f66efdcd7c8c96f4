"""A log of any size that is shaped like a platform's: Zipf songs, heavy-tailed users, short sessions, 30 days.

Songs are drawn independently of each other, so that more different pairs occur than in a log of people with a taste.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FIRST_DAY, DAYS = dt.date(2025, 3, 2), 30
SONGS = 80_000
SESSION_EVENTS = 7.0
"""Mean; nearly 6 of them are positive, which gives about 4 pairs an event."""
EVENTS_A_USER = 100
SECONDS_A_SONG = 200
KINDS = ("play", "like", "skip")
SHARES = (0.84, 0.10, 0.06)
LEAST_RATIO = {"play": 0.45, "like": 0.6, "skip": 0.0}
WIDTH_OF_RATIO = {"play": 0.55, "like": 0.4, "skip": 0.3}

_DAY = 86_400_000_000
_Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Skew:
    """What a skewed log has beside the tails of every log.

    Attributes:
        user: share of all sessions that one user has.
        song: share of all sessions that one song is heard in.
    """

    user: float = 0.0
    song: float = 0.0


def write_log(folder: Path, events: int, skew: Skew | None = None, seed: int = 0) -> None:
    """Write a log as one Parquet file a day, `dt=YYYY-MM-DD/events.parquet`, in the order of time.

    Args:
        folder: of the log; made.
        events: how many.
        skew: none by default.
        seed: the same log for the same arguments.
    """
    rng, skew = np.random.default_rng(seed), skew or Skew()
    session = _sessions(rng, events)
    n_sessions = int(session[-1]) + 1
    user = _users(rng, n_sessions, max(1, events // EVENTS_A_USER), skew.user)
    first = np.flatnonzero(np.diff(session, prepend=-1))
    ts = _times(rng, session, first)
    track = _songs(rng, events)
    kind = rng.choice(len(KINDS), events, p=SHARES).astype(np.int8)
    hit = first[rng.random(n_sessions) < skew.song]
    track[hit], kind[hit] = 0, KINDS.index("like")
    ratio = _of(LEAST_RATIO)[kind] + _of(WIDTH_OF_RATIO)[kind] * rng.random(events, dtype=np.float32)
    order = np.argsort(ts, kind="stable")
    columns = _Columns(user[session[order]], session[order], ts[order], track[order], kind[order], ratio[order])
    _write_days(folder, columns)


def song_ids(songs: int = SONGS) -> pa.Array:
    """Ids of the songs, the most heard first; their order says nothing of it."""
    # A multiplier without a common factor spreads the ranks over the ids.
    return _named("t", np.arange(songs, dtype=np.int64) * 7_919 % songs)


@dataclass(frozen=True)
class _Columns:
    user: _Int64
    session: _Int64
    ts: _Int64
    track: _Int64
    kind: npt.NDArray[np.int8]
    ratio: npt.NDArray[np.float32]


def _sessions(rng: np.random.Generator, events: int) -> _Int64:
    """The session of each event: lengths are geometric."""
    lengths = rng.geometric(1 / SESSION_EVENTS, int(1.2 * events / SESSION_EVENTS) + 100)
    return np.repeat(np.arange(len(lengths)), lengths)[:events]


def _users(rng: np.random.Generator, sessions: int, users: int, share: float) -> _Int64:
    """The user of each session: activity is log-normal, and one user has a share to himself."""
    reached = np.cumsum(rng.lognormal(0.0, 1.5, users))
    found = np.searchsorted(reached, rng.random(sessions) * reached[-1], side="right").astype(np.int64)
    found[rng.random(sessions) < share] = 0
    return found


def _times(rng: np.random.Generator, session: _Int64, first: _Int64) -> _Int64:
    """Microseconds since 1970: sessions start at any time of the month, and may last beyond midnight."""
    gaps = (rng.exponential(SECONDS_A_SONG * 1e6, len(session))).astype(np.int64)
    since = np.cumsum(gaps)
    start = (rng.random(len(first)) * (DAYS * _DAY)).astype(np.int64)
    epoch = (FIRST_DAY - dt.date(1970, 1, 1)).days * _DAY
    ts = epoch + start[session] + since - since[first][session]
    return np.minimum(ts, epoch + DAYS * _DAY - 1)


def _songs(rng: np.random.Generator, events: int) -> _Int64:
    """Ranks of songs: the n-th is heard in proportion to 1/n."""
    reached = np.cumsum(1 / np.arange(1, SONGS + 1))
    return np.searchsorted(reached, rng.random(events) * reached[-1], side="right").astype(np.int64)


def _of(figures: dict[str, float]) -> npt.NDArray[np.float32]:
    return np.array([figures[kind] for kind in KINDS], dtype=np.float32)


def _named(letter: str, numbers: npt.NDArray[np.int64]) -> pa.Array:
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0")
    return pc.binary_join_element_wise(letter, digits, "")


def _write_days(folder: Path, columns: _Columns) -> None:
    songs, kinds = song_ids(), pa.array(KINDS)
    day = columns.ts // _DAY
    starts = np.append(np.flatnonzero(np.diff(day, prepend=-1)), len(day))
    for start, end in pairwise(starts):
        rows = slice(start, end)
        table = pa.table(
            {
                "ts": pa.array(columns.ts[rows], pa.timestamp("us", "UTC")),
                "user_id": _named("u", columns.user[rows]),
                "track_id": songs.take(pa.array(columns.track[rows])),
                "event_type": kinds.take(pa.array(columns.kind[rows])),
                "duration_ratio": pa.array(columns.ratio[rows]),
                "session_id": _named("s", columns.session[rows]),
            }
        )
        below = folder / f"dt={dt.date(1970, 1, 1) + dt.timedelta(days=int(day[start]))}"
        below.mkdir(parents=True)
        pq.write_table(table, below / "events.parquet", compression="zstd")
