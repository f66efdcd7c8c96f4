"""Debiased linear CKA."""

import numpy as np
import pytest

from htcl.evaluation.cka import debiased_linear_cka


def test_the_published_value():
    """By google-research/representation_similarity for the same draws."""
    rng = np.random.RandomState(1337)
    x = rng.randn(100, 10)
    assert debiased_linear_cka(x, rng.randn(100, 10) + x) == pytest.approx(0.51346, abs=1e-5)


def test_rotation_and_scale_change_nothing_and_other_spaces_are_far():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 12))
    turned = 3 * x @ np.linalg.qr(rng.normal(size=(12, 12)))[0]
    assert debiased_linear_cka(x, turned) == pytest.approx(1)
    assert abs(debiased_linear_cka(x, rng.normal(size=(200, 30)))) < 0.1


def test_too_few_songs():
    with pytest.raises(ValueError, match="too few"):
        debiased_linear_cka(np.eye(3), np.eye(3))
