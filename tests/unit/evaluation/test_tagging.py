"""Scores of classes against labels."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from htcl.evaluation.labels import Labels
from htcl.evaluation.tagging import tag_scores


def labels(kind, classes, member):
    member = np.asarray(member, bool)
    return Labels("x", kind, classes, np.arange(len(member)), member)


def test_accuracy_is_told_song_by_song():
    found = tag_scores(
        labels("single", ["a", "b"], [[1, 0], [0, 1], [0, 1]]), np.array([[2, 1], [0, 1], [3, 0]]), 0.95, 10, 0
    )
    assert found.per_song["accuracy"].tolist() == [1, 1, 0]


def test_a_key_that_is_near_counts_a_part():
    names = ["C major", "G major", "A minor", "C minor", "F# major"]
    said = np.eye(5)[[0, 1, 2, 3, 4]]
    true = np.tile([1, 0, 0, 0, 0], (5, 1))
    found = tag_scores(labels("key", names, true), said, 0.95, 10, 0)
    assert found.per_song["weighted_score"].tolist() == [1, 0.5, 0.3, 0.2, 0]


def test_several_labels_agree_with_scikit_learn_and_have_an_interval():
    rng = np.random.default_rng(0)
    member = rng.random((80, 5)) < 0.3
    scores = (member + rng.normal(size=member.shape)).round(1).astype(np.float32)
    found = tag_scores(labels("multiple", list("abcde"), member), scores, 0.95, 100, 0).of_all
    assert found["roc_auc"].value == pytest.approx(roc_auc_score(member, scores, average="macro"))
    assert found["mean_ap"].value == pytest.approx(average_precision_score(member, scores, average="macro"))
    for figure in found.values():
        assert figure.low < figure.value < figure.high and figure.n == 80
