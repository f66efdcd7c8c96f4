"""Song-to-song recommendation: held-out positives of an anchor, ranked among the songs on offer."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from htcl.evaluation.metrics import (
    FloatArray,
    IntArray,
    RowSets,
    TargetRanks,
    joined,
    ndcg_at_k,
    ranks_of_targets,
    recall_at_k,
    reciprocal_rank,
)
from htcl.evaluation.scorers import Scorer, score_blocks


@dataclass(frozen=True)
class Queries:
    """Anchors with their held-out positives, as row numbers of the catalog that all systems share.

    Raises ValueError if a row is outside the catalog, an anchor has no positive or one twice, or a positive
    is the anchor itself, excluded or not on offer.
    """

    offered: npt.NDArray[np.bool_]  # which rows of the catalog are on offer [candidates]
    anchors: IntArray  # [queries]
    relevant: RowSets  # held-out positives, at least one per query
    excluded: RowSets  # not offered: the positives seen in training; the anchor itself never is

    def __post_init__(self) -> None:
        """Check what would otherwise give wrong metrics in silence."""
        for name, sets in (("relevant", self.relevant), ("excluded", self.excluded)):
            if len(sets.indptr) != len(self.anchors) + 1:
                raise ValueError(f"{name} has {len(sets.indptr) - 1} sets for {len(self.anchors)} anchors")
        if len(self.anchors) == 0:
            raise ValueError("no queries: leave this split out, or hold out more pairs")
        rows = np.concatenate([self.anchors, self.relevant.indices, self.excluded.indices])
        if rows.min() < 0 or rows.max() >= self.n_candidates:
            raise ValueError(
                f"rows reach from {rows.min()} to {rows.max()}, the catalog has {self.n_candidates}: "
                "number the songs by their row in the catalog that is scored"
            )
        self._check_relevant()

    @property
    def n_candidates(self) -> int:
        """Rows of the catalog."""
        return len(self.offered)

    def chosen(self, queries: IntArray) -> "Queries":
        """Some of the queries, in that order."""
        return Queries(
            self.offered, self.anchors[queries], self.relevant.chosen(queries), self.excluded.chosen(queries)
        )

    def _check_relevant(self) -> None:
        empty = np.flatnonzero(np.diff(self.relevant.indptr) == 0)
        if len(empty):
            raise ValueError(f"anchor row {self.anchors[empty[0]]} has no relevant row: leave it out of the queries")
        relevant = self._keys(self.relevant)
        if len(np.unique(relevant)) < len(relevant):
            raise ValueError("an anchor has the same relevant row twice: pass each held-out pair once")
        itself = np.arange(len(self.anchors)) * self.n_candidates + self.anchors
        withheld = np.isin(relevant, np.concatenate([self._keys(self.excluded), itself]))
        hidden = relevant[withheld | ~self.offered[self.relevant.indices]]
        if len(hidden):
            query, row = divmod(int(hidden[0]), self.n_candidates)
            raise ValueError(
                f"row {row} is relevant for anchor row {self.anchors[query]} and not offered to it "
                "(excluded, not on offer, or the anchor itself): take training pairs out of the held-out ones"
            )

    def _keys(self, sets: RowSets) -> IntArray:
        """One number per (query, row)."""
        return sets.query_of_index() * self.n_candidates + sets.indices


def song_ranks(system: str, scorer: Scorer, queries: Queries) -> TargetRanks:
    """Where the held-out positives of each anchor stand; see ``evaluate_song_to_song``."""
    parts = []
    for at, found in score_blocks(system, scorer, queries.anchors, queries.n_candidates):
        scores = np.where(queries.offered, found, -np.inf).astype(np.float32)
        excluded = queries.excluded.part(at.start, at.stop)
        scores[np.arange(len(scores)), queries.anchors[at]] = -np.inf
        scores[excluded.query_of_index(), excluded.indices] = -np.inf
        parts.append(ranks_of_targets(scores, queries.relevant.part(at.start, at.stop)))
    return joined(parts)


def evaluate_song_to_song(system: str, scorer: Scorer, queries: Queries) -> dict[str, FloatArray]:
    """Metrics per query, every row on offer being a candidate but the anchor and the excluded rows.

    Returns float64 [queries] for each of recall_at_10, recall_at_50, ndcg_at_10 and mrr; the value of mrr for
    one query is its reciprocal rank. Recall divides by the number of relevant rows (see ``recall_at_k``).
    Raises ValueError, naming the system, for scores of another shape or that are not finite.
    """
    return song_metrics(song_ranks(system, scorer, queries))


def song_metrics(ranks: TargetRanks) -> dict[str, FloatArray]:
    """The metrics of ``evaluate_song_to_song``, from where the held-out positives stand."""
    return {
        "recall_at_10": recall_at_k(ranks, 10),
        "recall_at_50": recall_at_k(ranks, 50),
        "ndcg_at_10": ndcg_at_k(ranks, 10),
        "mrr": reciprocal_rank(ranks),
    }
