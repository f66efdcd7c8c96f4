"""How many different pairs occur where songs are drawn independently, the n-th in proportion to 1/n."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, gammainc

from htcl.pairs.sketches import SKETCH_SIZE

BINS = 600
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairModel:
    """Pairs of a catalog in classes of pairs that are equally likely.

    Attributes:
        pairs: how many unordered pairs of different songs each class has.
        share: probability of each pair of a class among all that occur.
    """

    pairs: _Floats
    share: _Floats

    def different(self, occurrences: float, at_least: int = 1) -> float:
        """Pairs that occur so often or more."""
        return float((self.pairs * gammainc(at_least, occurrences * self.share)).sum())

    def sketched(self, occurrences: float) -> float:
        """Users in the sketches of all pairs together, each occurrence by another user."""
        return float((self.pairs * np.minimum(occurrences * self.share, SKETCH_SIZE)).sum())


def pair_model(songs: int) -> PairModel:
    """Classes of pairs of a catalog of so many songs: ranks are binned, the first ones each alone."""
    edges = np.unique(np.geomspace(1, songs + 1, BINS).round())
    count = np.diff(edges)
    heard = np.diff(digamma(edges)) / (digamma(songs + 1) - digamma(1)) / count
    share = np.multiply.outer(heard, heard)
    pairs = np.multiply.outer(count, count) / 2
    pairs[np.diag_indices_from(pairs)] = count * (count - 1) / 2
    # Off the diagonal each class stands there twice, with half of its pairs.
    share /= (share * pairs).sum()
    return PairModel(pairs.ravel(), share.ravel())
