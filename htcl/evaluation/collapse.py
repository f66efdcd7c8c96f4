"""Signs of collapsed embeddings: few directions used, or all songs alike."""

import numpy as np
import numpy.typing as npt

from htcl.evaluation.metrics import Scores
from htcl.evaluation.scorers import unit_rows


def effective_rank(embeddings: npt.ArrayLike) -> float:
    """exp(entropy of the normalised singular values) of the unit vectors (Roy & Vetterli 2007).

    ``embeddings``: float [n, d]. Between 1 (all on one line) and min(n, d) (all directions used alike). The
    mean is not taken out: a cone around one direction is a collapse too. Raises ValueError for rows without
    a direction.
    """
    singular = np.linalg.svd(_directions(embeddings), compute_uv=False).astype(np.float64)
    share = singular / singular.sum()
    share = share[share > 0]
    return float(np.exp(-np.sum(share * np.log(share))))


def mean_cosine(embeddings: npt.ArrayLike) -> float:
    """Mean cosine over all pairs of different rows of float [n, d], by their sum, so in O(n d).

    Raises ValueError for fewer than two rows, or rows without a direction.
    """
    unit = _directions(embeddings).astype(np.float64)
    n = len(unit)
    if n < 2:
        raise ValueError(f"{n} embeddings have no pairs: pass at least two")
    return float((np.sum(unit.sum(axis=0) ** 2) - np.sum(unit**2)) / (n * (n - 1)))


def rows_without_direction(embeddings: npt.ArrayLike) -> int:
    """How many rows of float [n, d] are zero or hold NaN or infinity."""
    return int(np.count_nonzero(~np.isfinite(unit_rows(embeddings)).all(axis=1)))


def directed(embeddings: npt.NDArray[np.float32], seed: int) -> tuple[npt.NDArray[np.float32], int]:
    """Embeddings float [n, d], with random rows for those without a direction, and how many these are."""
    lost = ~np.isfinite(unit_rows(embeddings)).all(axis=1)
    found = embeddings.copy()
    found[lost] = np.random.default_rng(seed).normal(size=(int(lost.sum()), embeddings.shape[1]))
    return found, int(lost.sum())


def _directions(embeddings: npt.ArrayLike) -> Scores:
    bad = rows_without_direction(embeddings)
    if bad:
        raise ValueError(f"{bad} embeddings are zero, NaN or infinite: find them in the embeddings table")
    return unit_rows(embeddings)
