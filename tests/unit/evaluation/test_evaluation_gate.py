import numpy as np
import pyarrow as pa
import pytest

from htcl.config import EvaluationConfig, GateConfig
from htcl.evaluation.gate import GUARDS, decide
from htcl.evaluation.results import per_query_table

RNG = np.random.default_rng(0)
N = 200
TRACKS = [f"t{i}" for i in range(N)]
BASE = RNG.uniform(0.2, 0.8, N)
HEALTHY = RNG.normal(size=(100, 16)).astype(np.float32)
LIMITS = GateConfig(tolerance=0.0, min_effective_rank=4.0, max_mean_cosine=0.9)
BOOTSTRAP = EvaluationConfig(bootstrap_samples=500)


def centred(noise):
    values = RNG.normal(0, noise, N)
    return values - values.mean()


def table(cold=0.0, warm=0.0, semantics=0.0, *, tracks=TRACKS, noise=0.02):
    """Per-query values: a common difficulty of each query, noise of mean 0, and a shift; None: no rows."""
    shifts = dict(zip(GUARDS, (cold, warm, semantics), strict=True))
    return pa.concat_tables(
        per_query_table("stage2", g.task, g.split, tracks, {g.metric: BASE + shift + centred(noise)})
        for g, shift in shifts.items()
        if shift is not None
    )


def test_the_first_model_is_promoted():
    decision = decide(table(), None, HEALTHY, LIMITS, BOOTSTRAP)
    assert decision.promote
    assert "first model" in decision.reasons[0]


def test_an_equal_and_a_better_candidate_are_promoted():
    for shift in (0.0, 0.05):
        champion = table()
        decision = decide(table(shift, shift, shift), champion, HEALTHY, LIMITS, BOOTSTRAP)
        assert decision.promote, decision.reasons
        assert [c.guard for c in decision.comparisons] == list(GUARDS)
        assert all("not worse" in reason for reason in decision.reasons)


@pytest.mark.parametrize("guard", range(3))
def test_a_loss_on_any_guard_is_rejected(guard):
    shifts = [0.1, 0.1, 0.1]
    shifts[guard] = -0.03
    decision = decide(table(*shifts), table(), HEALTHY, LIMITS, BOOTSTRAP)
    assert not decision.promote
    assert len(decision.reasons) == 1
    assert GUARDS[guard].name in decision.reasons[0]
    assert decision.comparisons[guard].difference.high < 0


def test_a_loss_within_the_tolerance_or_the_noise_is_accepted():
    assert decide(table(cold=-0.03), table(), HEALTHY, LIMITS.model_copy(update={"tolerance": 0.05}), BOOTSTRAP).promote
    assert decide(table(-0.02, -0.02, -0.02, noise=0.5), table(), HEALTHY, LIMITS, BOOTSTRAP).promote


def test_warm_pairs_are_compared_if_there_are_any():
    decision = decide(table(warm=None), table(warm=None), HEALTHY, LIMITS, BOOTSTRAP)
    assert decision.promote
    assert len(decision.comparisons) == 2
    assert not decide(table(warm=None), table(), HEALTHY, LIMITS, BOOTSTRAP).promote


def test_without_shared_queries_nothing_is_promoted():
    decision = decide(table(), table(tracks=[f"old{i}" for i in range(N)]), HEALTHY, LIMITS, BOOTSTRAP)
    assert not decision.promote
    assert len(decision.reasons) == 3
    assert all("evaluate the champion on the held-out songs of today" in r for r in decision.reasons)


@pytest.mark.parametrize("champion", [None, table()])
def test_collapse_is_rejected_also_for_the_first_model(champion):
    flat = RNG.normal(size=(100, 2)) @ RNG.normal(size=(2, 16))
    decision = decide(table(), champion, flat, LIMITS, BOOTSTRAP)
    assert not decision.promote
    assert any("effective rank is" in reason for reason in decision.reasons)
    cone = HEALTHY + 20
    reasons = decide(table(), champion, cone, LIMITS, BOOTSTRAP).reasons
    assert any("cosine of 0.99" in reason for reason in reasons)


def test_broken_or_missing_embeddings_are_rejected():
    broken = HEALTHY.copy()
    broken[0], broken[1] = np.nan, 0
    assert "2 of 100 embeddings" in decide(table(), None, broken, LIMITS, BOOTSTRAP).reasons[0]
    assert "1 embeddings" in decide(table(), None, HEALTHY[:1], LIMITS, BOOTSTRAP).reasons[0]


def test_nan_in_a_metric_is_a_reason_not_a_traceback():
    good = table()
    values = good["value"].to_numpy().copy()
    values[0] = np.nan
    bad = good.set_column(good.schema.get_field_index("value"), "value", pa.array(values))
    decision = decide(bad, good, HEALTHY, LIMITS, BOOTSTRAP)
    assert not decision.promote
    assert "1 metric values of the candidate" in decision.reasons[0]
    decision = decide(good, bad, HEALTHY, LIMITS, BOOTSTRAP)
    assert not decision.promote
    assert "evaluate the champion again" in decision.reasons[0]
