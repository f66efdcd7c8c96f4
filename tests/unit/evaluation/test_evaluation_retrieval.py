import numpy as np
import pytest

from htcl.evaluation import scorers
from htcl.evaluation.retrieval import evaluate_retrieval, rank_own_answer
from htcl.evaluation.scorers import popularity_scorer, random_scorer

RNG = np.random.default_rng(0)
AUDIO = RNG.normal(size=(60, 8)).astype(np.float32)
TEXT = AUDIO + RNG.normal(size=(60, 8)).astype(np.float32)


def naive_ranks(queries, candidates):
    cosine = np.array([[q @ c / (np.linalg.norm(q) * np.linalg.norm(c)) for c in candidates] for q in queries])
    return np.array([1 + sum(row > row[i]) for i, row in enumerate(cosine)])


def test_both_directions_equal_the_naive_ranks():
    found = evaluate_retrieval("stage1", AUDIO, TEXT)
    for task, ranks in (
        ("text_to_audio", naive_ranks(TEXT, AUDIO)),
        ("audio_to_text", naive_ranks(AUDIO, TEXT)),
    ):
        np.testing.assert_array_equal(found[task]["median_rank"], ranks)
        for k in (1, 5, 10):
            np.testing.assert_array_equal(found[task][f"recall_at_{k}"], ranks <= k)


def test_the_block_size_changes_nothing(monkeypatch):
    whole = evaluate_retrieval("stage1", AUDIO, TEXT)
    monkeypatch.setattr(scorers, "BLOCK_SCORES", 7 * len(AUDIO))
    for task, metrics in evaluate_retrieval("stage1", AUDIO, TEXT).items():
        for metric, values in metrics.items():
            np.testing.assert_array_equal(values, whole[task][metric])


def test_songs_with_identical_text_share_the_rank():
    vectors = np.eye(4, dtype=np.float32)
    text = vectors[[0, 0, 2, 3]]
    found = evaluate_retrieval("stage1", vectors, text)
    # Two texts fit song 0 equally; for song 1, four candidates have cosine 0.
    assert found["audio_to_text"]["median_rank"][0] == 1.5
    assert found["audio_to_text"]["recall_at_1"][0] == 0.5
    assert found["text_to_audio"]["recall_at_1"].tolist() == [1, 0, 1, 1]


def test_collapsed_embeddings_are_at_chance():
    one = np.tile(RNG.normal(size=(1, 100)).astype(np.float32), (333, 1))
    for metrics in evaluate_retrieval("stage2", one, one).values():
        np.testing.assert_allclose(metrics["recall_at_10"], 10 / 333)
        np.testing.assert_allclose(metrics["median_rank"], 167)


def test_random_and_popularity_are_near_chance():
    n = 400
    random = rank_own_answer("random", random_scorer(n), n)
    assert random["recall_at_10"].mean() == pytest.approx(10 / n, abs=0.02)
    assert np.median(random["median_rank"]) == pytest.approx((n + 1) / 2, rel=0.15)
    popularity = rank_own_answer("popularity", popularity_scorer(np.arange(n)), n)
    assert popularity["recall_at_10"].mean() == 10 / n


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_embeddings_without_direction_name_the_system(bad):
    broken = AUDIO.copy()
    broken[3] = bad
    with pytest.raises(ValueError, match="system 'stage2'"):
        evaluate_retrieval("stage2", broken, TEXT)


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="60 audio and 59 text"):
        evaluate_retrieval("stage1", AUDIO, TEXT[1:])
    with pytest.raises(ValueError, match="8 dimensions and candidates 7"):
        evaluate_retrieval("stage1", AUDIO[:, 1:], TEXT)
    with pytest.raises(ValueError, match="no songs"):
        evaluate_retrieval("stage1", AUDIO[:0], TEXT[:0])
