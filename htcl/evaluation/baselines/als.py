"""Matrix factorisation of the log, and the linear map from content to its factors that cold songs are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from htcl.card_config import AlsConfig
from htcl.evaluation.baselines.optional import needed
from htcl.evaluation.metrics import IntArray, RowSets, Scores
from htcl.evaluation.scorers import Scorer, embedding_scorer, unit_rows

Bools = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

UNKNOWN = np.float32(-1e6)
"""Score of a song that training never saw: below all others, and the same for all of them."""


class Als:
    """Factors of songs, and of listeners from any history."""

    def __init__(self, plays: csr_matrix, config: AlsConfig, seed: int = 0) -> None:
        """Fit, on one thread, so that the same log gives the same factors.

        Args:
            plays: positive responses [listeners, songs].
            config: the recipe.
            seed: of the first factors.
        """
        als = needed("implicit.als")
        plays = plays.astype(np.float32)
        with threadpool_limits(1, "blas"):
            self._model: Any = als.AlternatingLeastSquares(
                factors=config.factors,
                regularization=config.regularization,
                alpha=config.alpha,
                iterations=config.iterations,
                random_state=seed,
                num_threads=1,
            )
            self._model.fit(plays, show_progress=False)
        self.known: Bools = np.asarray(plays.sum(axis=0)).ravel() > 0
        self.factors: Float32 = np.asarray(self._model.item_factors, np.float32)

    def songs(self) -> Scorer:
        """Cosine of the factors of two songs."""
        factors = np.where(self.known[:, None], self.factors, 1)  # any direction: such songs are put last
        return _known_first(embedding_scorer(factors), self.known)

    def listeners(self, histories: RowSets) -> Scorer:
        """Factors of listeners, worked out from their histories, times those of the songs."""
        return _known_first(self.listeners_of(self.factors, histories), self.known)

    def listeners_of(self, songs: Float32, histories: RowSets) -> Scorer:
        """The same for songs that stand elsewhere among the factors [n, factors], such as where a map puts them."""
        history = history_matrix(histories, len(self.known))
        factors = np.asarray(self._model.recalculate_user(np.arange(history.shape[0]), history), np.float32)
        return lambda rows: factors[rows] @ songs.T


def _known_first(scorer: Scorer, known: Bools) -> Scorer:
    def score(rows: IntArray) -> Scores:
        return np.where(known, scorer(rows), UNKNOWN).astype(np.float32)

    return score


def history_matrix(histories: RowSets, songs: int) -> csr_matrix:
    """Histories as ones in [listeners, songs]."""
    ones = np.ones(len(histories.indices), np.float32)
    return csr_matrix((ones, histories.indices, histories.indptr), shape=(len(histories.indptr) - 1, songs))


def mapped_to_factors(content: Float32, als: Als, train: Bools, ridge: float) -> Float32:
    """Songs where a linear map from their content puts them among the factors (van den Oord et al. 2013, linear).

    Args:
        content: embeddings [n, d].
        als: fitted on the log.
        train: songs that the map may learn from [n]; those that the factors do not know are passed over.
        ridge: weight of the map's norm.

    Returns:
        float32 [n, factors].
    """
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    taught = train & als.known
    scaled = StandardScaler().fit(content[taught]).transform(content)
    fitted = Ridge(alpha=ridge).fit(scaled[taught], unit_rows(als.factors[taught]))
    return np.asarray(fitted.predict(scaled), np.float32)
