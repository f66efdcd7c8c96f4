"""Ranking metrics per query, from the ranks of the relevant candidates.

Ties are broken at random, and every metric is its exact expectation over those orders. A system that scores
all candidates alike therefore stands at chance level; it is neither first nor last everywhere.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]


class RowSets(NamedTuple):
    """One set of row numbers per query, in CSR form: query q has ``indices[indptr[q]:indptr[q + 1]]``."""

    indptr: IntArray  # [queries + 1], from 0 to len(indices)
    indices: IntArray  # [total]

    def part(self, start: int, stop: int) -> "RowSets":
        """The sets of the queries ``start`` to ``stop`` (exclusive)."""
        first, last = self.indptr[start], self.indptr[stop]
        return RowSets(self.indptr[start : stop + 1] - first, self.indices[first:last])

    def chosen(self, queries: IntArray) -> "RowSets":
        """The sets of some queries, in that order."""
        sizes = np.diff(self.indptr)[queries]
        indptr = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(int(indptr[-1])) + np.repeat(self.indptr[queries] - indptr[:-1], sizes)
        return RowSets(indptr, self.indices[places])

    def query_of_index(self) -> IntArray:
        """The query number of each entry of ``indices``: int64 [total]."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


class TargetRanks(NamedTuple):
    """Where the targets of each query stand: each on one of the ranks ``above + 1`` to ``above + tied``."""

    above: IntArray  # [total] candidates with a higher score
    tied: IntArray  # [total] candidates with the same score, the target included
    indptr: IntArray  # [queries + 1] the targets of a query, as in RowSets


def one_target_each(targets: IntArray) -> RowSets:
    """Sets of one: query q has the single target ``targets[q]`` (int64 [queries])."""
    return RowSets(np.arange(len(targets) + 1), targets)


def ranks_of_targets(scores: Scores, targets: RowSets) -> TargetRanks:
    """Count, for every target, the candidates above it and those tied with it.

    ``scores``: float [queries, candidates], higher is better; -inf marks a candidate that is not offered.
    Raises ValueError for a query without targets and for a target whose score is NaN.
    """
    if (np.diff(targets.indptr) == 0).any():
        query = int(np.argmin(np.diff(targets.indptr)))
        raise ValueError(f"query {query} has no relevant candidate, so no rank: leave it out of the queries")
    above = np.empty(len(targets.indices), np.int64)
    tied = np.empty_like(above)
    # One pass over a row per target needs no [targets, candidates] array, and for few targets beats a sort.
    for i, (query, target) in enumerate(zip(targets.query_of_index(), targets.indices, strict=True)):
        row = scores[query]
        above[i] = np.count_nonzero(row > row[target])
        tied[i] = np.count_nonzero(row == row[target])
    if not tied.all():
        raise ValueError("the score of a relevant candidate is NaN: check the scores before ranking them")
    return TargetRanks(above, tied, targets.indptr)


def joined(parts: Sequence[TargetRanks]) -> TargetRanks:
    """The ranks of consecutive blocks of queries as one."""
    sizes = np.concatenate([np.diff(part.indptr) for part in parts])
    return TargetRanks(
        np.concatenate([part.above for part in parts]),
        np.concatenate([part.tied for part in parts]),
        np.concatenate([[0], np.cumsum(sizes)]),
    )


def expected_rank(ranks: TargetRanks) -> FloatArray:
    """Mean rank of each target among its ties, from 1: float64 [total]. Its median is the median rank."""
    return np.asarray(ranks.above + (ranks.tied + 1) / 2, np.float64)


def recall_of_targets(ranks: TargetRanks, k: int) -> FloatArray:
    """Probability that each target is among its query's first k: float64 [total]."""
    return _mean_over_ties(np.arange(k + 1, dtype=np.float64), ranks)


def recall_at_k(ranks: TargetRanks, k: int) -> FloatArray:
    """Share of the query's relevant candidates in its first k: float64 [queries], within [0, 1].

    The denominator is the number of relevant candidates, so a query with more than k of them cannot reach 1.
    With one relevant candidate this is the hit rate.
    """
    return _sum_per_query(recall_of_targets(ranks, k), ranks) / np.diff(ranks.indptr)


def ndcg_at_k(ranks: TargetRanks, k: int) -> FloatArray:
    """Normalised discounted cumulative gain with binary relevance: float64 [queries], within [0, 1].

    The discount of rank r is 1 / log2(r + 1) (Järvelin & Kekäläinen 2002). The ideal list starts with
    min(k, relevant) relevant candidates.
    """
    gain_to_rank = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(1, k + 1) + 1))])
    ideal = gain_to_rank[np.minimum(np.diff(ranks.indptr), k)]
    return np.asarray(_sum_per_query(_mean_over_ties(gain_to_rank, ranks), ranks) / ideal, np.float64)


def hit_rate_at_k(ranks: TargetRanks, k: int) -> FloatArray:
    """Whether any relevant candidate is in the query's first k: float64 [queries], within [0, 1]."""
    values = np.empty(len(ranks.indptr) - 1)
    for query, (start, stop) in enumerate(zip(ranks.indptr[:-1], ranks.indptr[1:], strict=True)):
        above = ranks.above[start:stop]
        best = int(above.argmin())
        relevant = int(np.count_nonzero(above == above[best]))
        values[query] = _expected_hit(k - int(above[best]), int(ranks.tied[start + best]), relevant)
    return values


def reciprocal_rank(ranks: TargetRanks) -> FloatArray:
    """1 / rank of the first relevant candidate: float64 [queries], within (0, 1]. Its mean is the MRR."""
    values = np.empty(len(ranks.indptr) - 1)
    for query, (start, stop) in enumerate(zip(ranks.indptr[:-1], ranks.indptr[1:], strict=True)):
        above = ranks.above[start:stop]
        best = int(above.argmin())
        relevant = int(np.count_nonzero(above == above[best]))
        values[query] = _expected_reciprocal(int(above[best]), int(ranks.tied[start + best]), relevant)
    return values


def _mean_over_ties(total_to_rank: FloatArray, ranks: TargetRanks) -> FloatArray:
    """Mean gain over the ranks a target may have; ``total_to_rank[r]`` sums the gains of ranks 1 to r."""
    k = len(total_to_rank) - 1
    last = total_to_rank[np.minimum(ranks.above + ranks.tied, k)]
    first = total_to_rank[np.minimum(ranks.above, k)]
    return np.asarray((last - first) / ranks.tied, np.float64)


def _sum_per_query(values: FloatArray, ranks: TargetRanks) -> FloatArray:
    return np.asarray(np.add.reduceat(values, ranks.indptr[:-1]), np.float64)


def _expected_hit(places: int, tied: int, relevant: int) -> float:
    """Probability that one of ``relevant`` candidates among ``tied`` in random order is in the first ``places``."""
    if places <= 0:
        return 0.0
    drawn = np.arange(min(places, tied))
    # Once only relevant ones are left, the next is one of them for certain: the factor is 0.
    return float(1 - np.prod(np.maximum(tied - relevant - drawn, 0) / (tied - drawn)))


def _expected_reciprocal(above: int, tied: int, relevant: int) -> float:
    """E[1 / rank] of the first of ``relevant`` candidates that lie at random among ``tied`` places."""
    skipped = np.arange(tied - relevant + 1)
    # none_before[j]: probability that the first j tied places hold no relevant candidate.
    none_before = np.concatenate([[1.0], np.cumprod((tied - relevant - skipped[:-1]) / (tied - skipped[:-1]))])
    is_first = none_before * relevant / (tied - skipped)
    return float(np.sum(is_first / (above + 1 + skipped)))
