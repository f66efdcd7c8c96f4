"""Systems that are compared, each as one function from queries to scores over all candidates."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from htcl.evaluation.metrics import IntArray, Scores

# (query rows int64 [b]) -> scores float32 [b, candidates], higher is better.
Scorer = Callable[[IntArray], Scores]

# Scores held at once: 64 MiB as float32, whatever the size of the catalog.
BLOCK_SCORES = 2**24

# The cosines of equal vectors differ by some 1e-7 with their place in the matrix product; rounded, they tie
# as they should.
COSINE_DECIMALS = 6


def embedding_scorer(candidates: npt.ArrayLike, queries: npt.ArrayLike | None = None) -> Scorer:
    """Cosine similarity, rounded to 1e-6, of query vectors to candidate vectors (both float [n, d]).

    Without ``queries`` the query rows are rows of ``candidates``, as in song-to-song search. A zero vector
    has no direction: its scores are NaN, which the evaluation refuses.
    """
    unit_candidates = unit_rows(candidates)
    unit_queries = unit_candidates if queries is None else unit_rows(queries)
    if unit_candidates.shape[1] != unit_queries.shape[1]:
        raise ValueError(
            f"queries have {unit_queries.shape[1]} dimensions and candidates {unit_candidates.shape[1]}: "
            "both must come from the same embedding space"
        )

    def score(rows: IntArray) -> Scores:
        cosine = unit_queries[rows] @ unit_candidates.T
        return np.round(cosine, COSINE_DECIMALS, out=cosine)

    return score


def popularity_scorer(counts: npt.ArrayLike) -> Scorer:
    """Every query gets the same list: ``counts`` [candidates], baskets in training, 0 for held-out songs."""
    popularity = np.asarray(counts, np.float32)
    return lambda rows: np.broadcast_to(popularity, (len(rows), len(popularity)))


def random_scorer(n_candidates: int, seed: int = 0) -> Scorer:
    """Uniform scores that depend on the seed and the query row only, not on how queries are grouped."""

    def score(rows: IntArray) -> Scores:
        return np.stack([np.random.default_rng([seed, row]).random(n_candidates, np.float32) for row in rows])

    return score


def score_blocks(system: str, scorer: Scorer, queries: IntArray, n_candidates: int) -> Iterator[tuple[slice, Scores]]:
    """Score the queries in blocks of bounded memory: (positions in ``queries``, float32 [b, candidates]).

    Raises ValueError, naming the system, if scores have another shape or hold NaN or infinity.
    """
    step = max(1, BLOCK_SCORES // n_candidates)
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        scores = scorer(rows)
        if scores.shape != (len(rows), n_candidates):
            raise ValueError(
                f"system {system!r}: scores have shape {scores.shape}, expected {(len(rows), n_candidates)}: "
                "build its scorer over the same catalog as the queries"
            )
        finite = np.isfinite(scores)
        if not finite.all():
            query, candidate = np.argwhere(~finite)[0]
            raise ValueError(
                f"system {system!r}: the score of candidate row {candidate} for query row {rows[query]} is "
                f"{scores[query, candidate]}: look for NaN, infinite or zero embeddings among these rows"
            )
        yield slice(start, start + len(rows)), scores


def unit_rows(vectors: npt.ArrayLike) -> Scores:
    """Rows scaled to length 1: float32 [n, d]; a zero or not finite row becomes NaN."""
    array = np.asarray(vectors, np.float32)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.asarray(array / np.linalg.norm(array, axis=1, keepdims=True), np.float32)
