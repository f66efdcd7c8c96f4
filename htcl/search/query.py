"""Questions to the published set: songs for words, songs like a song."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from htcl.artifacts import ArtifactStore
from htcl.champion import require_champion
from htcl.embeddings.embedder import SongEmbedder
from htcl.errors import HTCLError
from htcl.ingest.catalog import read_catalog
from htcl.search.index import SongIndex


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
