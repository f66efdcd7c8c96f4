"""Songs for listeners: what they liked after the cut-off, ranked by what they had liked before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from htcl.evaluation.histories import Histories
from htcl.evaluation.metrics import (
    FloatArray,
    RowSets,
    TargetRanks,
    hit_rate_at_k,
    joined,
    ndcg_at_k,
    ranks_of_targets,
    recall_at_k,
    reciprocal_rank,
)
from htcl.evaluation.scorers import Scorer, score_blocks

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]

KS = (10, 50)
TOP = 10
"""Length of the lists whose coverage and popularity are measured."""


@dataclass(frozen=True)
class ListenerQueries:
    """Listeners with what is asked of them, over the candidates that all systems share.

    Attributes:
        listeners: their numbers in the log [queries].
        histories: known songs that each had liked before the cut-off, the last one last; at least one.
        relevant: songs on offer that each liked after it for the first time; at least one.
        excluded: songs that each had liked before it, new ones too: they are not offered again.
        offered: which candidates are on offer [candidates].
    """

    listeners: Int64
    histories: RowSets
    relevant: RowSets
    excluded: RowSets
    offered: Bools


def listener_queries(histories: Histories, cutoff: int, known: Bools, offered: Bools) -> ListenerQueries | None:
    """Split every history at a moment.

    Args:
        histories: of all listeners.
        cutoff: microseconds since 1970.
        known: songs that training saw [candidates]: of them alone histories are made.
        offered: songs that are asked for [candidates].

    Returns:
        Listeners with a history before the cut-off and a new song on offer after it; None where there is none.
    """
    late = histories.ts >= cutoff
    before = histories.part(~late & known[histories.song]).sets()
    heard = histories.part(~late)
    seen = heard.listener * len(known) + heard.song
    after = histories.part(late & offered[histories.song])
    fresh = ~np.isin(after.listener * len(known) + after.song, seen)
    relevant = after.part(fresh).sets()
    asked = np.flatnonzero((np.diff(before.indptr) > 0) & (np.diff(relevant.indptr) > 0))
    if not len(asked):
        return None
    return ListenerQueries(asked, before.chosen(asked), relevant.chosen(asked), heard.sets().chosen(asked), offered)


@dataclass(frozen=True)
class ListenerResult:
    """What a system made of listeners.

    Attributes:
        metrics: name -> value of each query [queries].
        ranks: where the relevant songs stand.
        top: candidates at the head of each list [queries, TOP], fewer where fewer are on offer.
    """

    metrics: dict[str, FloatArray]
    ranks: TargetRanks
    top: Int64


def evaluate_listeners(system: str, scorer: Scorer, queries: ListenerQueries, popularity: Int64) -> ListenerResult:
    """Rank the songs on offer for each listener.

    Args:
        system: named in errors.
        scorer: from the place of a query to scores over all candidates.
        queries: who is asked.
        popularity: positive responses to each candidate in the whole log [candidates]; in training new songs have none.

    Returns:
        recall, ndcg and hit_rate at 10 and 50, precision_at_50, mrr, and average_popularity: the mean popularity of the
        first TOP songs (average recommendation popularity; Yin et al. 2012).
    """
    ranks, top = [], []
    k = min(TOP, int(queries.offered.sum()))
    rng = np.random.default_rng(0)
    for at, found in score_blocks(system, scorer, np.arange(len(queries.listeners)), len(queries.offered)):
        scores = np.where(queries.offered, found, -np.inf).astype(np.float32)
        excluded = queries.excluded.part(at.start, at.stop)
        scores[excluded.query_of_index(), excluded.indices] = -np.inf
        ranks.append(ranks_of_targets(scores, queries.relevant.part(at.start, at.stop)))
        top += [_first(row, k, rng) for row in scores]
    place, heads = joined(ranks), np.array(top)
    metrics = {
        **{f"recall_at_{k}": recall_at_k(place, k) for k in KS},
        **{f"ndcg_at_{k}": ndcg_at_k(place, k) for k in KS},
        **{f"hit_rate_at_{k}": hit_rate_at_k(place, k) for k in KS},
        "precision_at_50": recall_at_k(place, 50) * np.diff(place.indptr) / 50,
        "mrr": reciprocal_rank(place),
        "average_popularity": popularity[heads].mean(axis=1).astype(np.float64),
    }
    return ListenerResult(metrics, place, heads)


def _first(scores: npt.NDArray[np.float32], k: int, rng: np.random.Generator) -> Int64:
    """The k candidates with the highest scores, those with equal ones in random order."""
    order = rng.permutation(len(scores))
    return order[np.argsort(-scores[order], kind="stable")[:k]]


def catalog_coverage(top: Int64, offered: Bools) -> float:
    """Share of the songs on offer that stand in any list `top` [queries, k]."""
    return len(np.unique(top)) / int(offered.sum())
