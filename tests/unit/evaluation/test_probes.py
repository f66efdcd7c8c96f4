"""Probes: who is in which fold, and what a probe can and cannot find."""

import numpy as np
import pytest
import torch

from htcl.card_config import ProbeConfig
from htcl.evaluation.labels import Labels
from htcl.evaluation.probes import Probe, group_folds, run_probes

CONFIG = ProbeConfig(learning_rates=[1e-3, 1e-2], epochs=60, patience=10)


def labels(classes, kind="single"):
    member = np.asarray(classes)
    if kind != "multiple":
        member = member[:, None] == np.arange(member.max() + 1)
    return Labels("field", kind, [str(n) for n in range(member.shape[1])], np.arange(len(member)), member.astype(bool))


def logits_of(vectors, found, folds, kind):
    return run_probes([Probe(vectors, found, folds, kind)], CONFIG)[0]


def test_folds_cut_no_group_and_ask_each_song_once():
    rng = np.random.default_rng(0)
    found, groups = labels(rng.integers(0, 3, 90)), np.repeat(np.arange(45), 2)
    folds = group_folds(found, groups, 5)
    assert sorted(np.concatenate(folds.test).tolist()) == list(range(90))
    for train, validation, test in zip(folds.train, folds.validation, folds.test, strict=True):
        parts = [set(groups[part]) for part in (train, validation, test)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert len(train) + len(validation) + len(test) == 90


def test_too_few_groups_make_no_folds():
    assert group_folds(labels([0, 1] * 10), np.repeat(np.arange(4), 5), 5) is None


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_probe_finds_what_is_linear_in_songs_it_has_not_seen(kind):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 150)
    vectors = (np.eye(8)[classes] + 0.1 * rng.normal(size=(150, 8))).astype(np.float32)
    found = labels(classes)
    logits = logits_of(vectors, found, group_folds(found, np.arange(150), 5), kind)
    assert (logits.argmax(axis=1) == classes).mean() > 0.95


def test_only_the_mlp_finds_what_is_not_linear():
    rng = np.random.default_rng(0)
    vectors = rng.choice([-1.0, 1.0], size=(400, 2)).astype(np.float32)
    found = labels((vectors[:, 0] * vectors[:, 1] > 0).astype(int))
    folds = group_folds(found, np.arange(400), 5)
    right = {
        kind: (logits_of(vectors, found, folds, kind).argmax(axis=1) == found.member.argmax(axis=1)).mean()
        for kind in ("linear", "mlp")
    }
    assert right["mlp"] > 0.95 and right["linear"] < 0.7


def test_labels_without_any_trace_in_the_embeddings_are_not_found():
    rng = np.random.default_rng(0)
    found = labels(rng.integers(0, 2, 200))
    vectors = rng.normal(size=(200, 16)).astype(np.float32)
    logits = logits_of(vectors, found, group_folds(found, np.arange(200), 5), "mlp")
    assert abs((logits.argmax(axis=1) == found.member.argmax(axis=1)).mean() - 0.5) < 0.12


def test_several_labels_are_told_apart():
    rng = np.random.default_rng(0)
    member = rng.random((150, 4)) < 0.4
    vectors = (member + 0.1 * rng.normal(size=member.shape)).astype(np.float32)
    found = labels(member, "multiple")
    logits = logits_of(vectors, found, group_folds(found, np.arange(150), 5), "linear")
    assert ((logits > 0) == member).mean() > 0.95


def test_probes_give_the_same_logits_alone_and_side_by_side():
    rng = np.random.default_rng(0)
    found, vectors = labels(rng.integers(0, 2, 60)), rng.normal(size=(60, 4)).astype(np.float32)
    probes = [Probe(vectors, found, group_folds(found, np.arange(60), 3), kind) for kind in ("mlp", "linear", "mlp")]
    alone = [run_probes([each], CONFIG)[0] for each in probes]
    np.testing.assert_array_equal(run_probes(probes, CONFIG), alone)


def test_probes_leave_the_number_of_threads_as_it_was():
    threads = torch.get_num_threads()
    run_probes([], CONFIG)
    assert torch.get_num_threads() == threads
