"""Times of acts that are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def median_seconds(acts: list[Callable[[], object]], rounds: int) -> list[float]:
    """Median time of each act, taken in turns so that the machine's moods meet all alike."""
    for act in acts:
        act()
    times: list[list[float]] = [[] for _ in acts]
    for _ in range(rounds):
        for act, found in zip(acts, times, strict=True):
            start = time.perf_counter()
            act()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]
