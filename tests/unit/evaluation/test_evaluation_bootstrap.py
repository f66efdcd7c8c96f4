import numpy as np
import pytest

from htcl.evaluation import bootstrap
from htcl.evaluation.bootstrap import interval, paired_difference


def test_the_interval_holds_the_statistic_and_is_reproducible():
    values = np.random.default_rng(0).normal(size=300)
    for statistic, value in (("mean", values.mean()), ("median", np.median(values))):
        found = interval(values, statistic=statistic)
        assert found.value == pytest.approx(value)
        assert found.low < value < found.high
        assert found.n == 300
        assert found == interval(values, statistic=statistic)


def test_the_width_is_that_of_the_normal_approximation():
    values = np.random.default_rng(1).normal(size=1000)
    found = interval(values, samples=4000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(1000), rel=0.06)
    assert interval(values, confidence=0.5).high < found.high


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    draws = [interval(rng.random(80) < 0.3, samples=300) for _ in range(300)]
    assert 0.90 <= np.mean([found.low <= 0.3 <= found.high for found in draws]) <= 0.98


def test_small_blocks_give_a_like_interval(monkeypatch):
    values = np.random.default_rng(3).normal(size=100)
    whole = interval(values)
    monkeypatch.setattr(bootstrap, "BLOCK_VALUES", 1)
    found = interval(values)
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high), abs=0.03)


def test_pairing_sees_a_difference_that_separate_intervals_hide():
    rng = np.random.default_rng(4)
    hard = rng.normal(size=200)
    a, b = hard + 0.1 + 0.1 * rng.normal(size=200), hard
    assert interval(a).low < interval(b).high
    found = paired_difference(a, b)
    assert 0 < found.low < 0.1 < found.high
    turned = paired_difference(b, a)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_paired_medians_are_a_difference_of_medians():
    found = paired_difference([1, 2, 9, 4], [1, 1, 1, 1], statistic="median")
    assert found.value == 2


def test_one_query_has_an_interval_without_width():
    found = interval([0.5])
    assert (found.low, found.value, found.high, found.n) == (0.5, 0.5, 0.5, 1)


def test_what_cannot_be_resampled_is_refused():
    with pytest.raises(ValueError, match="no values"):
        interval([])
    with pytest.raises(ValueError, match="NaN"):
        interval([1.0, np.nan])
    with pytest.raises(ValueError, match="differ in length"):
        paired_difference([1.0], [1.0, 2.0])
