"""Centred kernel alignment: how much two spaces agree on which songs are alike, whatever their axes."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
FEWEST_SONGS = 4
"""The estimator divides by n - 3."""


def debiased_linear_cka(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Linear CKA with the unbiased estimator of HSIC (Kornblith et al. 2019; Song et al. 2012), 1 for the same space.

    ``a``: float [n, d], ``b``: float [n, e], row by row the same songs; at least 4. Independent spaces have 0 on
    average, so it may come out a little below.
    """
    one, other = (np.asarray(vectors, np.float64) for vectors in (a, b))
    if len(one) < FEWEST_SONGS:
        raise ValueError(f"{len(one)} songs are too few for a debiased CKA: pass at least {FEWEST_SONGS}")
    grams = [_without_diagonal(vectors @ vectors.T) for vectors in (one, other)]
    cross, left, right = (_hsic(grams[i], grams[j]) for i, j in ((0, 1), (0, 0), (1, 1)))
    return float(cross / np.sqrt(left * right))


def _without_diagonal(gram: FloatArray) -> FloatArray:
    np.fill_diagonal(gram, 0)
    return gram


def _hsic(k: FloatArray, m: FloatArray) -> float:
    """Unbiased HSIC of two Gram matrices without diagonal, times n (n - 3)."""
    n = len(k)
    rows_k, rows_m = k.sum(axis=0), m.sum(axis=0)
    trace = float(np.sum(k * m))
    return trace + float(rows_k.sum() * rows_m.sum() / ((n - 1) * (n - 2)) - 2 * (rows_k @ rows_m) / (n - 2))
