"""Searches with their top songs, and short previews of the songs that the page shows."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from htcl.artifacts import ArtifactStore
from htcl.audio.decode import AudioRejected, decode_audio, resolve_audio_path
from htcl.audio.preview import encode_preview
from htcl.config import PipelineConfig
from htcl.logs import Progress, get_logger
from htcl.plan import audio_root
from htcl.report.data import Hit, QueryResult

Float32 = npt.NDArray[np.float32]
Catalog = dict[str, dict[str, Any]]
"""Catalog rows by track."""

SIMILAR_QUERIES = 2
HITS = 5


@dataclass(frozen=True)
class Songs:
    """Songs in one space: tracks [n] and unit embeddings [n, d]."""

    tracks: list[str]
    vectors: Float32

    def nearest(self, vector: Float32, k: int) -> list[tuple[str, float]]:
        """The k songs nearest to a unit vector [d], best first, with their cosine."""
        scores = self.vectors @ vector
        best = np.argsort(-scores, kind="stable")[:k]
        return [(self.tracks[row], float(scores[row])) for row in best]

    def like(self, row: int, k: int) -> list[tuple[str, float]]:
        """The k songs nearest to one of them, without itself."""
        return [hit for hit in self.nearest(self.vectors[row], k + 1) if hit[0] != self.tracks[row]][:k]


def read_queries(
    config: PipelineConfig, store: ArtifactStore, model_id: str, catalog: Catalog, songs: Songs
) -> list[QueryResult]:
    """The configured searches, and neighbours of a few songs that no training saw.

    Args:
        config: reads `report`.
        store: of the workspace.
        model_id: key of stage 2.
        catalog: what is said of the songs.
        songs: in its space.
    """
    queries = []
    texts = config.report.text_queries
    if texts:
        from htcl.embeddings.embedder import SongEmbedder

        folder = str(store.fetch("stage2", model_id))
        vectors = SongEmbedder.load(folder, model_id, "cpu").embed_texts(texts)  # a GPU may be embedding the catalog
        found = [songs.nearest(vector, HITS) for vector in vectors]
        queries = [QueryResult("text", text, hits(top, catalog)) for text, top in zip(texts, found, strict=True)]
    held_out = [row for row, track in enumerate(songs.tracks) if catalog[track]["split"] == "test"]
    for row in held_out[:SIMILAR_QUERIES]:
        track = songs.tracks[row]
        near = hits(songs.like(row, HITS), catalog)
        queries.append(QueryResult("song", catalog[track]["title"], near, track_id=track))
    return queries


def hits(found: list[tuple[str, float]], catalog: Catalog) -> list[Hit]:
    """Songs with what is said of them."""
    return [Hit(track, *words(catalog[track]), score) for track, score in found]


def words(row: dict[str, Any]) -> tuple[str, str, str]:
    """Title, artist and genre of a catalog row."""
    return row["title"], row["artist"] or "", row["genre"] or ""


def previews(config: PipelineConfig, tracks: list[str], catalog: Catalog) -> dict[str, str]:
    """Short MP3s of songs as data URIs, as many as the config allows."""
    chosen = tracks[: config.report.previews]
    progress, found = Progress(get_logger("report"), "previews", len(chosen)), {}
    for number, track in enumerate(chosen, start=1):
        try:
            path = resolve_audio_path(audio_root(config), catalog[track]["audio_path"])
            audio = decode_audio(path, max_seconds=30.0)
        except AudioRejected:
            continue  # the file changed since it was embedded; the page does without its player
        data = base64.b64encode(encode_preview(audio.samples, audio.sample_rate)).decode()
        found[track] = f"data:audio/mpeg;base64,{data}"
        progress.update(number)
    return found
