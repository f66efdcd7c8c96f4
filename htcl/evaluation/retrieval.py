"""Text-to-audio and audio-to-text retrieval within the same n songs.

Strict: the one right answer for a song is the song itself, also where another song has the same text. Such
songs tie, and share the expected rank.
"""

import numpy as np
import numpy.typing as npt

from htcl.evaluation.metrics import (
    FloatArray,
    expected_rank,
    joined,
    one_target_each,
    ranks_of_targets,
    recall_at_k,
)
from htcl.evaluation.results import Task
from htcl.evaluation.scorers import Scorer, embedding_scorer, score_blocks

RECALL_KS = (1, 5, 10)


def evaluate_retrieval(system: str, audio: npt.ArrayLike, text: npt.ArrayLike) -> dict[Task, dict[str, FloatArray]]:
    """Metrics per song for both directions, by cosine similarity.

    ``audio``, ``text``: float [n, d], row i of both is song i. Returns, per task, what ``rank_own_answer``
    returns. Raises ValueError for another number of rows or of dimensions, or scores that are not finite.
    """
    n_audio, n_text = len(np.asarray(audio)), len(np.asarray(text))
    if n_audio != n_text:
        raise ValueError(
            f"system {system!r}: {n_audio} audio and {n_text} text embeddings: pass the same songs, in one order"
        )
    return {
        "text_to_audio": rank_own_answer(system, embedding_scorer(audio, queries=text), n_audio),
        "audio_to_text": rank_own_answer(system, embedding_scorer(text, queries=audio), n_audio),
    }


def rank_own_answer(system: str, scorer: Scorer, n: int) -> dict[str, FloatArray]:
    """Metrics of any scorer where query i has the one right answer i of n, e.g. of the random baseline.

    Returns float64 [n] for each of recall_at_1, recall_at_5, recall_at_10 and median_rank; the value of
    median_rank for one query is its rank, from 1. Raises ValueError without songs and for scores that
    are not finite.
    """
    if n == 0:
        raise ValueError(f"system {system!r}: no songs to retrieve: check that the test split is not empty")
    songs = np.arange(n)
    targets = one_target_each(songs)
    ranks = joined(
        [
            ranks_of_targets(scores, targets.part(at.start, at.stop))
            for at, scores in score_blocks(system, scorer, songs, n)
        ]
    )
    metrics = {f"recall_at_{k}": recall_at_k(ranks, k) for k in RECALL_KS}
    return metrics | {"median_rank": expected_rank(ranks)}
