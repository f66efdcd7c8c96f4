"""The log as files: one JSONL per day, with the dirt that real logs have."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from htcl.demo.events import DAY_S, EVENT_TYPES, Events
from htcl.demo.factors import rng_for
from htcl.demo.listeners import Listeners, user_id
from htcl.demo.songs import DAYS, FIRST_DAY, Song

# Kind of dirt -> what it does to a copy of a good row. A duplicate stays as it is.
DIRT: dict[str, dict[str, Any]] = {
    "duplicate": {},
    "unknown_track": {"track_id": "T999999"},
    "missing_user": {"user_id": None},
    "bad_ts": {"ts": "2025-13-01 25:61"},
}
DIRT_SHARE = 0.0025  # of each kind

Row = dict[str, Any]


def write_interactions(root: Path, events: Events, songs: list[Song], listeners: Listeners, seed: int) -> int:
    """Write `interactions/dt=YYYY-MM-DD/part-0.jsonl` under `root`; return the number of dirty rows.

    `events` are in the order of time; the dirty rows of a day stand at the end of its file.
    """
    rng = rng_for(seed, "dirt")
    bounds = np.searchsorted(events.time, np.arange(DAYS + 1) * DAY_S)
    rows = _rows(events, songs, listeners)
    dirty_rows = 0
    for day in range(DAYS):
        clean = [next(rows) for _ in range(bounds[day + 1] - bounds[day])]
        dirty = list(_dirty(clean, day, rng))
        dirty_rows += len(dirty)
        date = np.datetime64(FIRST_DAY) + day
        path = root / "interactions" / f"dt={date}" / "part-0.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in clean + dirty), encoding="utf-8")
    return dirty_rows


def _rows(events: Events, songs: list[Song], listeners: Listeners) -> Iterator[Row]:
    tracks = [song.track_id for song in songs]
    stamps = np.datetime64(FIRST_DAY, "ms") + np.round(1000 * events.time).astype("timedelta64[ms]")
    columns = zip(
        stamps.astype(str),
        events.user.tolist(),
        events.session.tolist(),
        events.song.tolist(),
        events.kind.tolist(),
        np.round(events.ratio, 3).tolist(),
        events.trigger.tolist(),
        strict=True,
    )
    for number, (stamp, user, session, song, kind, ratio, trigger) in enumerate(columns):
        yield {
            "event_id": f"e{number:08d}",
            "ts": f"{stamp}Z",
            "user_id": user_id(user),
            "session_id": f"s{user:05d}-{session:04d}" if listeners.sends_session_id[user] else None,
            "track_id": tracks[song],
            "event_type": EVENT_TYPES[kind],
            "duration_ratio": None if np.isnan(ratio) else ratio,
            "trigger_track_id": tracks[trigger] if trigger >= 0 else None,
            "source": "recommendation" if trigger >= 0 else "library",
        }


def _dirty(clean: list[Row], day: int, rng: np.random.Generator) -> Iterator[Row]:
    """Broken copies of rows of one day; all but the duplicates have an event id of their own."""
    for kind, change in DIRT.items():
        chosen = np.flatnonzero(rng.random(len(clean)) < DIRT_SHARE)
        for number, index in enumerate(chosen):
            own_id = {"event_id": f"e-{kind}-{day:03d}-{number:04d}"} if change else {}
            yield clean[index] | own_id | change
