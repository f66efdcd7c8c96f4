"""item2vec: songs as words, listeners' histories as sentences."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from htcl.card_config import Item2VecConfig
from htcl.evaluation.baselines.optional import needed
from htcl.evaluation.histories import Histories

Float32 = npt.NDArray[np.float32]

NEGATIVES = 5


def item2vec(histories: Histories, songs: int, config: Item2VecConfig, seed: int = 0) -> Float32:
    """Vectors of songs by skip-gram over what each listener liked, in order of time.

    Args:
        histories: of training.
        songs: candidates.
        config: the recipe.
        seed: of the first vectors; one worker, so that the same log gives the same vectors.

    Returns:
        float32 [songs, size]; rows of songs that no history holds are 0.
    """
    word2vec = needed("gensim.models.word2vec")
    bounds = np.flatnonzero(np.diff(histories.listener, prepend=-1))
    sentences = [part.astype(str).tolist() for part in np.split(histories.song, bounds[1:])]
    model = word2vec.Word2Vec(
        sentences,
        vector_size=config.size,
        window=config.window,
        epochs=config.epochs,
        sample=config.sample,
        ns_exponent=config.ns_exponent,
        sg=1,
        negative=NEGATIVES,
        min_count=1,
        workers=1,
        seed=seed,
        shrink_windows=False,
    )
    vectors = np.zeros((songs, config.size), np.float32)
    for word, row in model.wv.key_to_index.items():
        vectors[int(word)] = model.wv[row]
    return vectors
