"""Runs over worlds and seeds as one."""

import numpy as np
import pytest

from htcl.config import EvaluationConfig
from htcl.report_card.pooling import compared, differences, pool

FIGURE = ("song_to_song", "cold", "ndcg_at_10")
CONFIG = EvaluationConfig(bootstrap_samples=10)


def by_system(pooled):
    return {result.system: result for result in pooled.results if result.metric == "ndcg_at_10"}


def test_seeds_of_one_world_are_averaged_by_query_and_worlds_add_queries(run):
    runs = [
        run("w1", {("a", *FIGURE): {"x": 0.0, "y": 1.0}}),
        run("w1", {("a", *FIGURE): {"x": 1.0, "y": 1.0}}),
        run("w2", {("a", *FIGURE): {"x": 0.0}}),
    ]
    pooled = pool(runs, CONFIG)
    assert dict(zip(pooled.per_query["query"].to_pylist(), pooled.per_query["value"].to_pylist(), strict=True)) == {
        "w1/x": 0.5,
        "w1/y": 1.0,
        "w2/x": 0.0,
    }
    assert by_system(pooled)["a"].value == pytest.approx(0.5) and by_system(pooled)["a"].n == 3
    spread = pooled.spreads["a", *FIGURE]
    assert spread.runs == 3 and spread.deviation == pytest.approx(np.std([0.5, 1.0, 0.0], ddof=1))


def test_one_run_has_no_spread(run):
    assert pool([run("w", {("a", *FIGURE): {"x": 0.0, "y": 1.0}})], CONFIG).spreads == {}


def test_figures_of_sets_are_averaged_with_their_bounds(run):
    key = ("a", "probe_linear_tags", "test", "roc_auc")
    figures = {("a", *FIGURE): {"x": 1.0}}
    pooled = pool(
        [run("w1", figures, {key: (0.6, 0.5, 0.7, 10)}), run("w2", figures, {key: (0.8, 0.7, 0.9, 30)})], CONFIG
    )
    (found,) = [result for result in pooled.results if result.metric == "roc_auc"]
    assert (found.value, found.low, found.high, found.n) == (
        pytest.approx(0.7),
        pytest.approx(0.6),
        pytest.approx(0.8),
        40,
    )


def test_deciles_are_weighted_by_songs(run):
    figures = {("a", *FIGURE): {"x": 1.0}}
    rows = [("a", "song_to_song", "cold", 3, 0.5, 10)], [("a", "song_to_song", "cold", 3, 1.0, 30)]
    pooled = pool([run("w1", figures, deciles=rows[0]), run("w2", figures, deciles=rows[1])], CONFIG)
    assert pooled.deciles.to_pylist() == [
        {"system": "a", "task": "song_to_song", "split": "cold", "decile": 3, "recall_at_10": 0.875, "n": 40}
    ]


def test_systems_are_compared_on_the_queries_that_both_answered(run):
    figures = {("a", *FIGURE): {"x": 1.0, "y": 0.5, "z": 0.0}, ("b", *FIGURE): {"x": 0.5, "y": 0.5}}
    found = compared(pool([run("w", figures)], CONFIG), "a", "b", FIGURE, CONFIG)
    assert found.value == pytest.approx(0.25) and found.n == 2
    assert compared(pool([run("w", figures)], CONFIG), "a", "nobody", FIGURE, CONFIG) is None


def test_what_one_run_says_is_kept_beside_what_all_say(run):
    runs = [
        run("w", {("a", *FIGURE): {"x": 1.0, "y": 0.5}, ("b", *FIGURE): {"x": 0.5, "y": 0.5}}),
        run("w", {("a", *FIGURE): {"x": 0.0}, ("b", *FIGURE): {"x": 0.5}}),
    ]
    assert differences(pool(runs, CONFIG), "a", "b", FIGURE) == [0.25, -0.5]


def test_songs_that_seeds_ask_again_count_once(run):
    key, figures = ("a", "probe_linear_tags", "test", "roc_auc"), {("a", *FIGURE): {"x": 1.0}}
    pooled = pool([run("w", figures, {key: (0.6, 0.5, 0.7, 10)}) for _ in range(2)], CONFIG)
    assert [result.n for result in pooled.results if result.metric == "roc_auc"] == [10]
