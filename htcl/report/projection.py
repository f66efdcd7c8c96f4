"""Embeddings flattened to two dimensions, for the map of the catalog."""

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE

MAX_POINTS = 3000
FEWEST_FOR_TSNE = 30  # below, neighbourhoods say nothing and the main axes say it better


def project_2d(embeddings: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Float32 [n, d] to [n, 2] by direction (cosine): main axes for few songs, t-SNE up to MAX_POINTS."""
    count = len(embeddings)
    if count > MAX_POINTS:
        raise ValueError(f"{count} songs are too many for a map; sample at most {MAX_POINTS}")
    directions = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    axes = _main_axes(directions)
    spread = float(axes[:, 0].std()) if count else 0.0
    if count < FEWEST_FOR_TSNE or spread < 1e-6:
        return axes
    start = (axes / spread * 1e-4).astype(np.float32)
    tsne = TSNE(perplexity=min(30.0, (count - 1) / 3), init=start, random_state=seed)
    return np.asarray(tsne.fit_transform(directions), dtype=np.float32)


def _main_axes(directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two principal components, zero where there are fewer; signs fixed, as the SVD leaves them open."""
    flat = np.zeros((len(directions), 2), dtype=np.float32)
    if len(directions) < 2:
        return flat
    centred = directions - directions.mean(axis=0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    kept = (left * scale)[:, :2]
    peaks = kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])]
    flat[:, : kept.shape[1]] = kept * np.where(peaks < 0, -1, 1)
    return flat
