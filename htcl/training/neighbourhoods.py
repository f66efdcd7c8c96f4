"""Hard negatives: batches that are in part drawn from one neighbourhood of the pair graph."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

from htcl.shards.order import Int64


def mixed_order(pairs: Int64, order: Int64, batch_size: int, near: int, seed: list[int]) -> Int64:
    """Reorder an epoch so that `near` pairs of each batch are neighbours and the rest stays random.

    Every pair still comes once an epoch, so that no song is drawn more often than before.

    Args:
        pairs: index rows of anchors and positives [n, 2].
        order: a random order of the pairs [n].
        batch_size: pairs of a batch.
        near: how many of them come from one neighbourhood.
        seed: of the epoch.

    Returns:
        Sample numbers [n], a permutation.
    """
    batches = len(order) // batch_size
    chosen, others = order[: batches * near], order[batches * near :]
    position = graph_order(pairs, np.random.default_rng([*seed, 1]))
    anchors = position[pairs[chosen, 0]]
    near_ones = chosen[np.argsort(anchors, kind="stable")].reshape(batches, near)
    far = others[: batches * (batch_size - near)].reshape(batches, batch_size - near)
    # Neighbourhoods come in random order: training must not walk through the graph.
    near_ones = near_ones[np.random.default_rng([*seed, 2]).permutation(batches)]
    left = others[batches * (batch_size - near) :]
    return np.concatenate([np.concatenate([near_ones, far], axis=1).ravel(), left])


def graph_order(pairs: Int64, generator: np.random.Generator) -> Int64:
    """Position of each index row in an order in which neighbours in the pair graph stand close together.

    The order is that of Cuthill and McKee (1969), a walk in breadth that keeps the bandwidth small.

    Args:
        pairs: index rows [n, 2].
        generator: numbers the songs, which decides between equal ones.

    Returns:
        Positions [greatest row + 1].
    """
    rows = int(pairs.max(initial=-1)) + 1
    number = generator.permutation(rows)
    ends = number[np.concatenate([pairs, pairs[:, ::-1]])]
    graph = csr_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(rows, rows))
    place = np.empty(rows, dtype=np.int64)
    place[reverse_cuthill_mckee(graph, symmetric_mode=True)] = np.arange(rows)
    return place[number]
