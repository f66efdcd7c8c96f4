"""Pairs and songs of baskets, counted per day: additive counts, fixed-point weights, bottom-k user sketches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from htcl.pairs.baskets import IMPRESSION, NEGATIVE, Baskets, Events
from htcl.pairs.sketches import bottom_k, merge_sketches, offsets_of
from htcl.pairs.sorting import Int64, Rows, run_lengths, run_starts, run_sums, sort_order, sorted_columns

PAIRS_AT_ONCE = 1 << 23
"""Pairs of baskets that are expanded together, about 100 B each, before those that occur again are added up."""
WEIGHT_ONE = 2**20
"""Unit of the fixed-point weights: sums are exact in any order."""

COPREFERENCE, ITEM, TRIGGERED = 0, 1, 2
SOURCES = ("copreference", "item", "triggered")
"""Names of the sources by number, in order; an item row is a song with itself and counts its baskets."""


FIGURES = ("n_baskets", "weight", "n_negative", "n_impressions")
"""What is counted of a pair, all of it additive."""


@dataclass(frozen=True)
class Counts:
    """Counts per (day, source, anchor, positive), [n] rows in that order; the sketches lie end to end.

    Attributes:
        day: days since 1970.
        source: number of the source in SOURCES.
        anchor: code of the song.
        positive: code of the song.
        figures: by FIGURES [4, n]: baskets that hold the pair; weight in units of 1/WEIGHT_ONE; of triggered pairs also
            baskets in which the song got a negative response, and in which it was shown because of the trigger.
        users: all sketches, ascending within a row.
        offsets: where each row's sketch starts [n + 1].
    """

    day: Int64
    source: Int64
    anchor: Int64
    positive: Int64
    figures: Int64
    users: Int64
    offsets: Int64

    @property
    def key(self) -> tuple[Int64, Int64, Int64, Int64]:
        """What tells rows apart."""
        return self.day, self.source, self.anchor, self.positive


def copreference_pairs(baskets: Baskets, symmetric: bool = True) -> Counts:
    """Count the pairs of each basket, each with weight 1/(n-1).

    Args:
        baskets: distinct songs of baskets.
        symmetric: the lesser song is the anchor; else the one that was heard first.
    """
    members = np.flatnonzero(baskets.size > 1)
    if not len(members):
        return empty_counts()
    pairs = np.cumsum(baskets.size[members] * (baskets.size[members] - 1) // 2)
    slices = np.split(members, np.flatnonzero(np.diff(pairs // PAIRS_AT_ONCE)) + 1)
    counted = [_pairs_of(baskets, some, symmetric) for some in slices]
    return add_up(counted) if len(counted) > 1 else counted[0]


def _pairs_of(baskets: Baskets, members: Rows, symmetric: bool) -> Counts:
    """Count the pairs of some baskets, each of two songs or more."""
    starts = np.cumsum(baskets.size) - baskets.size
    left, right, owners = [], [], []
    for n in np.unique(baskets.size[members]):
        same = members[baskets.size[members] == n]
        rows = starts[same, None] + np.arange(n)
        one, other = np.triu_indices(int(n), k=1)
        left.append(rows[:, one].ravel())
        right.append(rows[:, other].ravel())
        owners.append(np.repeat(same, len(one)))
    anchor, positive, owner = np.concatenate(left), np.concatenate(right), np.concatenate(owners)
    if not symmetric:
        turned = baskets.first[anchor] > baskets.first[positive]
        anchor, positive = np.where(turned, positive, anchor), np.where(turned, anchor, positive)
    day, user, share = baskets.day[owner], baskets.user[owner], baskets.size[owner] - 1
    return count_pairs(COPREFERENCE, day, baskets.track[anchor], baskets.track[positive], share, user)


def triggered_pairs(events: Events, numbers: Int64, liked: Rows) -> Counts:
    """Count pairs (trigger, song) once a basket, with weight 1 (the paper's triplet).

    Args:
        events: all events of a basket.
        numbers: their baskets.
        liked: rows of positive responses.

    A pair that was only shown or refused is a row with n_baskets = 0: what turns a count into a rate.
    """
    caused = (events.trigger >= 0) & (events.trigger != events.track)
    counted = []
    for figure, rows in (
        ("n_baskets", liked[caused[liked]]),
        ("n_negative", np.flatnonzero(caused & (events.response == NEGATIVE))),
        ("n_impressions", np.flatnonzero(caused & (events.response == IMPRESSION))),
    ):
        found = count_pairs(TRIGGERED, *_once(events, numbers, rows))
        counted.append(found if figure == "n_baskets" else _only(found, FIGURES.index(figure)))
    return add_up(counted)


def _only(counts: Counts, place: int) -> Counts:
    """The number of baskets as another figure: no positive response, so no user either."""
    figures = np.zeros_like(counts.figures)
    figures[place] = counts.figures[0]
    return replace(counts, figures=figures, **_nobody(len(counts.day)))


def _once(events: Events, numbers: Int64, rows: Rows) -> tuple[Int64, Int64, Int64, Int64, Int64]:
    """(day, trigger, song, share, user) once for each (basket, trigger, song)."""
    picked = events.take(rows)
    order = sort_order(numbers[rows], picked.trigger, picked.track)
    order = order[run_starts(numbers[rows][order], picked.trigger[order], picked.track[order])]
    once = picked.take(order)
    return once.day, once.trigger, once.track, np.ones(len(order), dtype=np.int64), once.user


def item_counts(baskets: Baskets) -> Counts:
    """Count the baskets of each song; a basket of n songs gives each the weight 1/n."""
    day = baskets.day[baskets.basket]
    share = baskets.size[baskets.basket]
    counted = count_pairs(ITEM, day, baskets.track, baskets.track, share, np.zeros_like(day))
    # Who heard a song is asked of no one: less personal data is kept.
    return replace(counted, **_nobody(len(counted.day)))


def count_pairs(source: int, day: Int64, anchor: Int64, positive: Int64, share: Int64, user: Int64) -> Counts:
    """Add up occurrences [n] of pairs by (day, anchor, positive).

    Args:
        source: number of the source.
        day: days since 1970.
        anchor: code of the song.
        positive: code of the song.
        share: n of the weight 1/n of each occurrence.
        user: of each occurrence.
    """
    day, anchor, positive, user, share = sorted_columns(day, anchor, positive, user, share)
    starts = run_starts(day, anchor, positive)
    weight = np.rint(WEIGHT_ONE / np.maximum(share, 1)).astype(np.int64)
    users, offsets = bottom_k(user, starts)
    nothing = np.zeros(len(starts), dtype=np.int64)
    figures = np.stack([run_lengths(starts, len(day)), run_sums(weight, starts), nothing, nothing])
    source_column = np.full(len(starts), source, dtype=np.int64)
    return Counts(day[starts], source_column, anchor[starts], positive[starts], figures, users, offsets)


def empty_counts() -> Counts:
    """No pairs at all."""
    none = np.zeros(0, dtype=np.int64)
    return Counts(
        none, none, none, none, np.zeros((len(FIGURES), 0), dtype=np.int64), none, np.zeros(1, dtype=np.int64)
    )


def add_up(parts: Sequence[Counts]) -> Counts:
    """Add up counts that may hold the same pairs; the sketches are united."""
    joined = concatenate(parts)
    joined = take(joined, sort_order(*joined.key))
    starts = run_starts(*joined.key)
    figures = np.stack([run_sums(figure, starts) for figure in joined.figures])
    users, offsets = merge_sketches(joined.users, joined.offsets, starts)
    day, source, anchor, positive = (column[starts] for column in joined.key)
    return Counts(day, source, anchor, positive, figures, users, offsets)


def take(counts: Counts, rows: Rows) -> Counts:
    """Some rows, in that order."""
    sizes = np.diff(counts.offsets)[rows]
    ends = np.cumsum(sizes)
    places = np.arange(int(sizes.sum())) + np.repeat(counts.offsets[:-1][rows] - (ends - sizes), sizes)
    day, source, anchor, positive = (column[rows] for column in counts.key)
    return Counts(day, source, anchor, positive, counts.figures[:, rows], counts.users[places], offsets_of(sizes))


def concatenate(parts: Sequence[Counts]) -> Counts:
    """Rows of several counts one after another."""
    day, source, anchor, positive, users = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("day", "source", "anchor", "positive", "users")
    )
    figures = np.concatenate([part.figures for part in parts], axis=1)
    offsets = offsets_of(np.concatenate([np.diff(part.offsets) for part in parts]))
    return Counts(day, source, anchor, positive, figures, users, offsets)


def _nobody(rows: int) -> dict[str, Int64]:
    """Empty sketches."""
    return {"users": np.zeros(0, dtype=np.int64), "offsets": np.zeros(rows + 1, dtype=np.int64)}
