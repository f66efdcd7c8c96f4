"""Questions to the published set: songs for words, songs like a song."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from htcl.artifacts import ArtifactStore
from htcl.audio.decode import decode_audio
from htcl.champion import require_champion
from htcl.embeddings.embedder import SongEmbedder
from htcl.errors import HTCLError
from htcl.ingest.catalog import read_catalog
from htcl.search.index import SongIndex

Float32 = npt.NDArray[np.float32]
_BATCH = 16


@dataclass(frozen=True)
class Found:
    """A song that answers a question; `score` is the cosine."""

    track_id: str
    title: str
    artist: str
    genre: str
    tags: tuple[str, ...]
    score: float


class PublishedSongs:
    """The champion's index, model and catalog, opened together."""

    def __init__(self, workspace: str) -> None:
        champion = require_champion(workspace)
        store = ArtifactStore(workspace)
        self.index = SongIndex(store.fetch("index", champion.index))
        self._model = (str(store.fetch("stage2", champion.stage2)), champion.stage2)
        catalog = read_catalog(store.fetch("catalog", champion.catalog))
        self._catalog = catalog.select(["track_id", "title", "artist", "genre", "tags"])
        self._place = {track: row for row, track in enumerate(catalog["track_id"].to_pylist())}

    def search(self, query: str, k: int = 10) -> list[Found]:
        """The k songs nearest to some words."""
        if not query.strip():
            raise HTCLError("the query is empty; describe a song in a few words")
        vector = SongEmbedder.load(*self._model).embed_texts([query])
        return self._found(self.index.nearest(vector, k)[0])

    def similar(self, track_id: str, k: int = 10) -> list[Found]:
        """The k songs nearest to a song, without the song itself.

        Raises:
            HTCLError: naming the nearest known id when the song is not indexed.
        """
        vector = self.index.vector(track_id)
        if vector is None:
            close = difflib.get_close_matches(track_id, self.index.tracks[:100_000], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise HTCLError(f"the index has no song {track_id!r}{hint}")
        hits = self.index.nearest(vector, k + 1)[0]
        return self._found([hit for hit in hits if hit[0] != track_id][:k])

    def embed(self, paths: Sequence[str | Path]) -> Float32:
        """Unit embeddings [n, d] of sound files, by the model of the published set, a few at a time.

        Raises:
            AudioRejected: when a file is no readable music.
        """
        embedder = SongEmbedder.load(*self._model)
        audio = embedder.processor.audio_config
        rate, most = audio.sample_rate, audio.max_seconds
        parts = [np.empty((0, list(embedder.model.config.projection_sizes)[-1]), np.float32)]
        for start in range(0, len(paths), _BATCH):
            decoded = (
                decode_audio(path, sample_rate=rate, max_seconds=most).samples for path in paths[start : start + _BATCH]
            )
            parts.append(embedder.embed_songs([embedder.processor.log_mel(samples) for samples in decoded])[0])
        return np.concatenate(parts)

    def nearest(self, vectors: Float32, k: int = 10) -> list[list[Found]]:
        """The k songs nearest to each unit vector [n, d], best first."""
        return [self._found(hits) for hits in self.index.nearest(vectors, k)]

    def embeddings(self) -> tuple[list[Found], Float32]:
        """Every song of the set, and their unit embeddings [n, d] in that order."""
        songs = [self.describe(track) for track in self.index.tracks]
        return songs, self.index.vectors()

    def describe(self, track_id: str, score: float = 1.0) -> Found:
        """What the catalog says of a song."""
        row = self._catalog.slice(self._place[track_id], 1).to_pylist()[0]
        return Found(
            track_id=track_id,
            title=row["title"],
            artist=row["artist"] or "",
            genre=row["genre"] or "",
            tags=tuple(row["tags"] or ()),
            score=score,
        )

    def _found(self, hits: list[tuple[str, float]]) -> list[Found]:
        return [self.describe(track, score) for track, score in hits]
