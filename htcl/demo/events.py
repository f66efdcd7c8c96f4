"""The listening itself: sessions, plays, skips, likes, replays and recommendations, as arrays."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from htcl.demo.factors import rng_for
from htcl.demo.listeners import Listeners, affinity, similarity
from htcl.demo.songs import DAYS, FIRST_DAY, Song

EVENT_TYPES = ("play", "skip", "like", "replay")
DAY_S = 86_400
SLOT_HOURS = (7.0, 12.0, 17.0, 21.3)  # sessions of a listener start in distinct slots, so they never overlap
SLOT_SPREAD_HOURS = 2.5

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Events:
    """The log by columns, all of shape (events,).

    `time` in seconds since the start of the first day, `kind` an index of EVENT_TYPES, `ratio` NaN where the
    event has none, `trigger` the song that caused a recommendation or -1.
    """

    user: Ints
    session: Ints  # unique within a listener
    time: Floats
    song: Ints
    kind: Ints
    ratio: Floats
    trigger: Ints

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Events":
        """The events at `rows`, in that order."""
        return Events(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Market:
    """What all listeners share, with arrays over songs."""

    popularity: Floats
    similarity: Floats
    release_day: Ints  # days since the first day of the log, negative for older songs
    duration_s: Floats


def simulate(songs: list[Song], listeners: Listeners, seed: int) -> Events:
    """All events of the log in the order of time; a function of its arguments."""
    market = Market(
        popularity=np.array([song.popularity for song in songs]),
        similarity=similarity(songs),
        release_day=np.array([(song.release - FIRST_DAY).days for song in songs]),
        duration_s=np.array([song.duration_s for song in songs]),
    )
    taste = affinity(listeners, songs)
    logs = [
        _listen(user, taste[user], listeners.sessions_per_day[user], market, rng_for(seed, "log", user))
        for user in range(len(listeners))
    ]
    log = Events(*(np.concatenate([getattr(part, f.name) for part in logs]) for f in fields(Events)))
    return log.take(np.argsort(log.time, kind="stable"))


def _listen(user: int, taste: Floats, sessions_per_day: float, market: Market, rng: np.random.Generator) -> Events:
    """The events of one listener."""
    starts = _session_starts(sessions_per_day, rng)
    session = np.repeat(np.arange(len(starts)), rng.integers(5, 16, len(starts)))
    song, trigger = _choose(session, starts, taste, market, rng)
    released = market.release_day[song] <= starts[session] // DAY_S
    session, song, trigger = session[released], song[released], trigger[released]
    positive = rng.random(len(song)) < _chance_to_please(taste[song])
    skipped = ~positive & (rng.random(len(song)) < 0.75)
    ratio = np.where(positive, 0.85 + 0.15 * rng.beta(3, 1, len(song)), rng.uniform(0.35, 0.75, len(song)))
    ratio = np.where(skipped, rng.beta(1.5, 6, len(song)), ratio)
    seconds = market.duration_s[song] * ratio + rng.exponential(2, len(song)) + 0.5
    ends = np.cumsum(seconds)
    before = np.concatenate([[0.0], ends])[np.searchsorted(session, session)]
    time = starts[session] + ends - seconds - before
    plays = Events(np.full(len(song), user), session, time, song, skipped.astype(np.int64), ratio, trigger)
    log = _join(plays, _react(plays, positive, market, rng))
    return log.take(log.time < DAYS * DAY_S)


def _session_starts(per_day: float, rng: np.random.Generator) -> Floats:
    """Start times in seconds: each slot of each day holds a session with the same probability."""
    day, slot = np.nonzero(rng.random((DAYS, len(SLOT_HOURS))) < per_day / len(SLOT_HOURS))
    hours = np.array(SLOT_HOURS)[slot] + SLOT_SPREAD_HOURS * rng.random(len(slot))
    return np.asarray(day * DAY_S + 3600 * hours)


def _draw(cumulative: Floats, rng: np.random.Generator) -> Ints:
    """One index per row of cumulative weights, shape (rows, songs) -> (rows,)."""
    goal = rng.random(len(cumulative)) * cumulative[:, -1]
    return np.asarray((cumulative < goal[:, None]).sum(axis=1))


def _choose(
    session: Ints, starts: Floats, taste: Floats, market: Market, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Song and trigger (or -1) of each event.

    From the library comes what the listener likes, near the song that set the mood of the session. The
    service recommends songs like the last one that pleased in the session, blind to the listener's taste.
    """
    weights = market.popularity * np.exp(1.6 * taste)
    focus = _draw(np.tile(np.cumsum(weights), (len(starts), 1)), rng)
    library = np.cumsum(weights * np.exp(2.5 * market.similarity[focus]), axis=1)
    song = _draw(library[session], rng)
    asked = rng.random(len(session)) < 0.35
    pleased = ~asked & (rng.random(len(session)) < _chance_to_please(taste[song]))
    pleased &= market.release_day[song] <= starts[session] // DAY_S
    # The last pleasing event so far, exclusive of the event itself; it must lie in the same session.
    last = np.maximum.accumulate(np.where(pleased, np.arange(len(session)), -1))
    last = np.concatenate([[-1], last[:-1]])
    recommended = asked & (last >= np.searchsorted(session, session))
    cause = song[last[recommended]]
    near = market.popularity * np.exp(5.0 * market.similarity[cause])
    anything = market.popularity / market.popularity.sum()
    mixed = 0.75 * near / near.sum(axis=1, keepdims=True) + 0.25 * anything
    trigger = np.full(len(session), -1)
    trigger[recommended] = cause
    song[recommended] = _draw(np.cumsum(mixed, axis=1), rng)
    return song, trigger


def _chance_to_please(taste: Floats) -> Floats:
    """Probability of a positive response to songs of this affinity; never quite 0 or 1."""
    return np.asarray(0.03 + 0.94 / (1 + np.exp(-4 * (taste - 0.6))))


def _react(plays: Events, positive: NDArray[np.bool_], market: Market, rng: np.random.Generator) -> Events:
    """Likes and replays that follow plays that pleased."""
    dice = rng.random(len(plays))
    liked = plays.take(positive & (dice < 0.12))
    replayed = plays.take(positive & (dice > 0.92))
    half_way = liked.time + 0.5 * market.duration_s[liked.song]
    after = replayed.time + market.duration_s[replayed.song] * replayed.ratio + 0.2
    like = Events(
        liked.user,
        liked.session,
        half_way,
        liked.song,
        np.full(len(liked), EVENT_TYPES.index("like")),
        np.full(len(liked), np.nan),
        liked.trigger,
    )
    replay = Events(
        replayed.user,
        replayed.session,
        after,
        replayed.song,
        np.full(len(replayed), EVENT_TYPES.index("replay")),
        replayed.ratio,
        replayed.trigger,
    )
    return _join(like, replay)


def _join(first: Events, second: Events) -> Events:
    return Events(*(np.concatenate([getattr(first, f.name), getattr(second, f.name)]) for f in fields(Events)))
