"""How well scores of classes agree with the labels of songs: accuracy, weighted key score, ROC-AUC and mean AP."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from htcl.evaluation.baselines.optional import needed
from htcl.evaluation.bootstrap import Interval
from htcl.evaluation.labels import Labels
from htcl.evaluation.metrics import FloatArray

Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TagScores:
    """Agreement on one field.

    Attributes:
        per_song: metric -> value of each song [m]; of single and key fields.
        of_all: metric -> value with its bootstrap interval over songs; of fields with several labels.
    """

    per_song: dict[str, FloatArray]
    of_all: dict[str, Interval]


MAIN_METRIC = {"single": "accuracy", "key": "weighted_score", "multiple": "roc_auc"}


def tag_scores(labels: Labels, scores: Float32, confidence: float, samples: int, seed: int) -> TagScores:
    """Hold scores [m, classes] against the labels.

    Single: accuracy. Key: accuracy and `weighted_score` (MIREX: fifth 0.5, relative 0.3, parallel 0.2; by mir_eval).
    Multiple: ROC-AUC and mean average precision, macro over classes.
    """
    if labels.kind == "multiple":
        return TagScores(
            {},
            {
                "roc_auc": _resampled(_roc_auc, labels.member, scores, confidence, samples, seed),
                "mean_ap": _resampled(_mean_ap, labels.member, scores, confidence, samples, seed),
            },
        )
    said, true = scores.argmax(axis=1), labels.member.argmax(axis=1)
    per_song = {"accuracy": (said == true).astype(np.float64)}
    if labels.kind == "key":
        names = labels.classes
        pairs = [(names[t], names[s]) for t, s in zip(true, said, strict=True)]
        per_song["weighted_score"] = np.array([_key_score(*pair) for pair in pairs])
    return TagScores(per_song, {})


def _key_score(reference: str, estimate: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(needed("mir_eval").key.weighted_score(reference, estimate))


def _resampled(
    statistic: Callable[[Bools, Float32], float],
    member: Bools,
    scores: Float32,
    confidence: float,
    samples: int,
    seed: int,
) -> Interval:
    rng, n = np.random.default_rng(seed), len(member)
    draws = (rng.integers(n, size=n) for _ in range(samples))
    found = [statistic(member[rows], scores[rows]) for rows in draws]
    low, high = np.nanquantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(statistic(member, scores), float(low), float(high), n)


def _roc_auc(member: Bools, scores: Float32) -> float:
    """Mean over classes of the probability that a member stands above another, ties counting half."""
    positives = member.sum(axis=0)
    both = (positives > 0) & (positives < len(member))
    ranks = rankdata(scores[:, both], axis=0)
    p = positives[both]
    sums = (ranks * member[:, both]).sum(axis=0)
    return float(np.mean((sums - p * (p + 1) / 2) / (p * (len(member) - p))))


def _mean_ap(member: Bools, scores: Float32) -> float:
    """Mean over classes of average precision; equal scores are one step, as scikit-learn has it."""
    from sklearn.metrics import average_precision_score

    some = member.any(axis=0)
    return float(average_precision_score(member[:, some], scores[:, some], average="macro"))
