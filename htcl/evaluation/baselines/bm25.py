"""Item-item neighbours by co-listening, weighted by BM25."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.sparse import csr_matrix

from htcl.card_config import Bm25Config
from htcl.evaluation.baselines.als import history_matrix
from htcl.evaluation.baselines.optional import needed
from htcl.evaluation.metrics import IntArray, RowSets, Scores
from htcl.evaluation.scorers import Scorer


class Bm25:
    """Neighbours of songs."""

    def __init__(self, plays: csr_matrix, config: Bm25Config) -> None:
        """Fit on positive responses [listeners, songs]."""
        neighbours = needed("implicit.nearest_neighbours")
        # A song is its own first neighbour.
        model = neighbours.BM25Recommender(K=config.neighbours + 1, K1=config.k1, B=config.b, num_threads=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a conversion that is its own
            model.fit(plays, show_progress=False)
        self._similarity = csr_matrix(model.similarity)

    def songs(self) -> Scorer:
        """Similarity of two songs; 0 for all that are no neighbours."""
        return self._scorer(self._similarity)

    def listeners(self, histories: RowSets) -> Scorer:
        """Sum of the similarities to the songs of a history."""
        return self._scorer(history_matrix(histories, self._similarity.shape[0]) @ self._similarity)

    @staticmethod
    def _scorer(scores: csr_matrix) -> Scorer:
        def score(rows: IntArray) -> Scores:
            return np.asarray(scores[rows].todense(), np.float32)

        return score
