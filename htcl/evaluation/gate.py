"""The quality gate: may a candidate model take the place of the champion?"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htcl.config import EvaluationConfig, GateConfig
from htcl.evaluation.bootstrap import Interval, paired_difference
from htcl.evaluation.collapse import effective_rank, mean_cosine, rows_without_direction
from htcl.evaluation.drift import Drift
from htcl.evaluation.metrics import FloatArray
from htcl.evaluation.results import Split, Task, shared_queries


@dataclass(frozen=True)
class Guard:
    """A figure on which no candidate may lose."""

    name: str
    task: Task
    split: Split
    metric: str
    required: bool  # a log too short for a cut-off in time has no warm pairs


GUARDS = (
    Guard("preference for new songs", "song_to_song", "cold", "ndcg_at_10", required=True),
    Guard("preference for known songs", "song_to_song", "warm", "ndcg_at_10", required=False),
    Guard("semantics", "text_to_audio", "test", "recall_at_10", required=True),
)


@dataclass(frozen=True)
class Comparison:
    """Candidate against champion on one guard, over the queries that both answered."""

    guard: Guard
    candidate: float
    champion: float
    difference: Interval  # candidate - champion


@dataclass(frozen=True)
class GateDecision:
    """The decision, why, in sentences for whoever is on call, and the figures behind it."""

    promote: bool
    reasons: list[str]
    comparisons: list[Comparison]


def decide(
    candidate: pa.Table,
    champion: pa.Table | None,
    embeddings: npt.ArrayLike,
    limits: GateConfig,
    evaluation: EvaluationConfig,
    drift: Drift | None = None,
    without_direction: int = 0,
) -> GateDecision:
    """Promote a sound candidate that is nowhere worse than the champion beyond the noise, and not too far from it.

    ``candidate``, ``champion``: per-query tables (PER_QUERY_SCHEMA), one system each; no champion is the
    first model. ``embeddings``: float [n, d], the candidate's songs or a sample. A guard fails when the
    paired interval of candidate - champion lies wholly below ``-limits.tolerance``; ``evaluation`` says how it
    is drawn. ``drift``: from the champion, where it was measured. ``without_direction``: embeddings of songs and
    texts that the evaluation could rank by chance only. Raises ValueError for a table with more than
    one system.
    """
    against = _broken(candidate) + defects(embeddings, limits)
    if without_direction and not against:
        against = [f"{without_direction} embeddings of the candidate's songs and texts are zero, NaN or infinite."]
    if champion is None:
        return GateDecision(
            not against, against or ["This is the first model: there is no champion to compare with."], []
        )
    against += _moved(drift, limits) if drift and not against else []
    comparisons: list[Comparison] = []
    for guard in GUARDS:
        values = shared_queries(candidate, champion, guard.task, guard.split, guard.metric)
        if not guard.required and not (_has(candidate, guard) or _has(champion, guard)):
            continue
        obstacle = _obstacle(guard, *values)
        if obstacle:
            against.append(obstacle)
        else:
            comparisons.append(_compare(guard, *values, evaluation))
    against += [_verdict(c, limits) for c in comparisons if _is_worse(c, limits)]
    return GateDecision(not against, against or [_verdict(c, limits) for c in comparisons], comparisons)


def _broken(candidate: pa.Table) -> list[str]:
    broken = int(np.count_nonzero(~np.isfinite(candidate["value"].to_numpy())))
    if not broken:
        return []
    return [f"{broken} metric values of the candidate are NaN or infinite: look at its last training losses."]


def defects(embeddings: npt.ArrayLike, limits: GateConfig) -> list[str]:
    """What forbids embeddings float [n, d] whatever they are compared with."""
    n, bad = len(np.asarray(embeddings)), rows_without_direction(embeddings)
    if n < 2:
        return [f"{n} embeddings of the candidate are too few to judge: embed the catalog first."]
    if bad:
        return [f"{bad} of {n} embeddings of the candidate are zero, NaN or infinite."]
    reasons, rank, cosine = [], effective_rank(embeddings), mean_cosine(embeddings)
    if rank < limits.min_effective_rank:
        reasons.append(
            f"The candidate's embeddings have collapsed: their effective rank is {rank:.1f}, and at least "
            f"{limits.min_effective_rank:.1f} is asked for (gate.min_effective_rank)."
        )
    if cosine > limits.max_mean_cosine:
        reasons.append(
            f"The candidate's embeddings have collapsed: two songs have a cosine of {cosine:.3f} on average, "
            f"and at most {limits.max_mean_cosine:.3f} is allowed (gate.max_mean_cosine)."
        )
    return reasons


def _moved(drift: Drift, limits: GateConfig) -> list[str]:
    if drift.aligned <= limits.max_drift:
        return []
    return [
        f"The candidate moved the songs too far: after the best rotation they lie at a cosine distance of "
        f"{drift.aligned:.3f} from where the champion has them on average, and at most {limits.max_drift:.3f} is "
        f"allowed (gate.max_drift); of a song's neighbours {drift.neighbour_overlap:.0%} are the same."
    ]


def _has(table: pa.Table, guard: Guard) -> bool:
    return len(shared_queries(table, table, guard.task, guard.split, guard.metric)[0]) > 0


def _obstacle(guard: Guard, candidate: FloatArray, champion: FloatArray) -> str | None:
    """Why the two cannot be compared on the guard, if so."""
    figure = f"{guard.name} ({guard.task} {guard.metric}, {guard.split})"
    if len(candidate) == 0:
        return (
            f"Candidate and champion share no queries for {figure}, so they cannot be compared: evaluate the "
            "champion on the held-out songs of today, then run the gate again."
        )
    if not np.isfinite(candidate).all():
        return f"The candidate has NaN or infinite values in {figure}, so it cannot be compared."
    if not np.isfinite(champion).all():
        return (
            f"The champion has NaN or infinite values in {figure}, so it cannot be compared: evaluate the "
            "champion again."
        )
    return None


def _compare(guard: Guard, candidate: FloatArray, champion: FloatArray, evaluation: EvaluationConfig) -> Comparison:
    difference = paired_difference(
        candidate,
        champion,
        confidence=evaluation.confidence,
        samples=evaluation.bootstrap_samples,
        seed=evaluation.seed,
    )
    return Comparison(guard, float(candidate.mean()), float(champion.mean()), difference)


def _is_worse(comparison: Comparison, limits: GateConfig) -> bool:
    return comparison.difference.high < -limits.tolerance


def _verdict(comparison: Comparison, limits: GateConfig) -> str:
    guard, difference = comparison.guard, comparison.difference
    verdict = "worse" if _is_worse(comparison, limits) else "not worse"
    return (
        f"The candidate is {verdict} than the champion beyond the noise in {guard.name} ({guard.task} "
        f"{guard.metric}, {guard.split}): {comparison.candidate:.4f} against {comparison.champion:.4f}, "
        f"difference {difference.value:+.4f}, interval {difference.low:+.4f} to {difference.high:+.4f} "
        f"over {difference.n} queries, tolerance {limits.tolerance:g}."
    )
