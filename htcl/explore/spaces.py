"""The songs in both spaces, and what is near in a mixture of them: meaning (stage 1) and taste (stage 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htcl.artifacts import ArtifactStore
from htcl.champion import Champion
from htcl.explore.songs import Mask
from htcl.search.index import indexed_tracks, read_embeddings

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Point:
    """A question, or a song, as unit vectors of both spaces: meaning [d1] and taste [d2]."""

    meaning: Float32
    taste: Float32


@dataclass(frozen=True)
class Ranked:
    """Songs, best first: their rows [k], the cosines of both spaces [k], and the nearness that ranks them [k]."""

    rows: npt.NDArray[np.int64]
    meaning: Float32
    taste: Float32
    score: Float32


@dataclass(frozen=True)
class Spaces:
    """Unit embeddings of the same songs by both stages: meaning [n, d1] and taste [n, d2]."""

    tracks: list[str]
    meaning: Float32
    taste: Float32

    @property
    def track_array(self) -> pa.Array:
        """The track ids, for Arrow."""
        return pa.array(self.tracks, pa.string())

    def point(self, row: int) -> Point:
        """Where a song lies."""
        return Point(self.meaning[row], self.taste[row])

    def rank(self, point: Point, weight: float, allowed: Mask, k: int) -> Ranked:
        """The songs nearest to a point, by (1 - weight) x nearness in meaning + weight x nearness in taste.

        Nearness is the cosine in deviations from its mean over all songs: the cosines of one space may spread much
        wider than those of the other, which would then rule whatever the weight.

        Args:
            point: of the question.
            weight: 0 is meaning alone, 1 taste alone.
            allowed: which songs may be found [n].
            k: how many at most.
        """
        rows = np.flatnonzero(allowed)
        meaning, taste = self.meaning @ point.meaning, self.taste @ point.taste
        score = ((1 - weight) * _deviations(meaning) + weight * _deviations(taste))[rows]
        best = _best(score, k)
        return Ranked(rows[best], meaning[rows][best], taste[rows][best], score[best])


def read_spaces(workspace: str, champion: Champion) -> Spaces:
    """The embeddings of the published set.

    Raises:
        HTCLError: when a song of the index has no embedding of one of the stages.
    """
    store = ArtifactStore(workspace)
    manifest = store.manifest("embeddings", champion.embeddings)
    version, wanted = manifest["tables"]["embeddings"], indexed_tracks(store.fetch("index", champion.index))
    tracks, meaning, _ = read_embeddings(workspace, manifest["inputs"]["stage1"], version, wanted)
    _, taste, _ = read_embeddings(workspace, manifest["inputs"]["stage2"], version, wanted)
    return Spaces(tracks, meaning, taste)


def _deviations(cosines: Float32) -> Float32:
    """In standard deviations from their mean; 0 where all are alike."""
    spread = float(cosines.std())
    return np.asarray((cosines - cosines.mean()) / (spread if spread > 0 else 1), np.float32)


def _best(score: Float32, k: int) -> npt.NDArray[np.int64]:
    """Places of the k greatest, greatest first, equal ones in their own order."""
    if k < len(score):
        least = np.partition(score, -k)[-k]
        places = np.flatnonzero(score >= least)
    else:
        places = np.arange(len(score))
    return np.asarray(places[np.argsort(-score[places], kind="stable")][:k])
