"""Where stage 2 is most wrong, and what became of the neighbours of songs on the way from stage 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from htcl.evaluation.results import query_values
from htcl.report.data import Hit

WORST = 5
NEIGHBOURS = 5
EXAMPLES = (("largest gain", 1.0), ("middle", 0.5), ("largest loss", 0.0))
"""Which held-out songs are shown, by where they stand among all by what stage 2 gained."""


@dataclass(frozen=True)
class WorstText:
    """A held-out song that its own text finds late: its rank among the held-out songs."""

    track_id: str
    title: str
    text: str
    rank: int
    of: int


@dataclass(frozen=True)
class Neighbours:
    """The songs nearest to a held-out song in both spaces; `liked` are those that the same listeners liked."""

    why: str
    track_id: str
    title: str
    artist: str
    genre: str
    before: list[Hit]
    after: list[Hit]
    gain: float
    liked: frozenset[str]


def worst_texts(per_query: pa.Table, describe: Callable[[str], tuple[str, str]]) -> list[WorstText]:
    """The held-out songs that stage 2 finds latest by their own text.

    Args:
        per_query: of the evaluation.
        describe: track -> (title, text).
    """
    found = _values(per_query, "stage2", "text_to_audio", "test", "median_rank")
    order = sorted(found, key=lambda track: (-found[track], track))
    return [WorstText(track, *describe(track), round(found[track]), len(found)) for track in order[:WORST]]


def example_songs(per_query: pa.Table) -> list[tuple[str, str, float]]:
    """(why, track, gain in cold ndcg_at_10) of the songs whose neighbours are shown; none without cold queries."""
    before, after = (_values(per_query, stage, "song_to_song", "cold", "ndcg_at_10") for stage in ("stage1", "stage2"))
    order = sorted(before.keys() & after.keys(), key=lambda track: (after[track] - before[track], track))
    if not order:
        return []
    chosen = {why: order[round(place * (len(order) - 1))] for why, place in EXAMPLES}
    return [(why, track, after[track] - before[track]) for why, track in chosen.items()]


def _values(per_query: pa.Table, system: str, task: str, split: str, metric: str) -> dict[str, float]:
    queries, values = query_values(per_query.filter(pc.field("system") == system), task, split, metric)
    return dict(zip(queries.tolist(), values.tolist(), strict=True))
