"""Builds and opens a FAISS index; one index holds one model's embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.logs import get_logger, log
from htcl.plan import Step
from htcl.schemas import embeddings_schema
from htcl.tables import GrowingTable

Float32 = npt.NDArray[np.float32]

INDEX_FILE = "index.faiss"
TRACKS_FILE = "tracks.parquet"
TRAINING_SAMPLE = 200_000


def read_embeddings(
    workspace: str, model_id: str, version: int, tracks: pa.Array | None = None
) -> tuple[list[str], Float32, pa.Table]:
    """One model's songs in a version of the embeddings table, sorted by track_id.

    Args:
        workspace: that holds the table.
        model_id: key of the model.
        version: of the table.
        tracks: ids of the only songs that are wanted; all of them must be there.

    Returns:
        (track ids [n], unit embeddings [n, d], the rows).

    Raises:
        HTCLError: when there is none, or a song that is wanted has none.
    """
    table = GrowingTable(workspace, "embeddings", embeddings_schema(1), partition_by="model_id")
    chosen = pc.field("model_id") == model_id
    if tracks is not None:
        chosen &= pc.field("track_id").isin(tracks)
    rows = table.read(version, filter_=chosen).sort_by("track_id").combine_chunks()
    if tracks is not None and len(rows) < len(tracks):
        raise HTCLError(
            f"the embeddings table holds {len(rows)} of {len(tracks)} songs of model {model_id} in version {version}; "
            "run the pipeline again"
        )
    if not len(rows):
        raise HTCLError(f"the embeddings table holds no song of model {model_id}; run the pipeline again")
    flat = rows["embedding"].combine_chunks().flatten().to_numpy()
    return rows["track_id"].to_pylist(), np.ascontiguousarray(flat.reshape(len(rows), -1), np.float32), rows


def build_index(config: PipelineConfig, step: Step) -> None:
    """Index the stage-2 embeddings and publish the artifact.

    Raises:
        HTCLError: naming the setting when FAISS does not take the factory string.
    """
    store = ArtifactStore(config.workspace)
    factory = config.search.index_factory
    with store.create(step.recipe) as draft:
        embeddings = store.manifest("embeddings", step.recipe.inputs["embeddings"])
        model_id = embeddings["inputs"]["stage2"]
        tracks, vectors, _ = read_embeddings(config.workspace, model_id, embeddings["tables"]["embeddings"])
        faiss.write_index(_filled(factory, vectors), str(draft.path / INDEX_FILE))
        pq.write_table(pa.table({"track_id": tracks}), draft.path / TRACKS_FILE)
        draft.figures = {"songs": len(tracks), "dimension": vectors.shape[1], "factory": factory, "model": model_id}
    log(get_logger("index"), "index published", songs=len(tracks), factory=factory)


def _filled(factory: str, vectors: Float32) -> Any:
    try:
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(vectors[np.random.default_rng(0).permutation(len(vectors))[:TRAINING_SAMPLE]])
        index.add(vectors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise HTCLError(f"search.index_factory: FAISS refuses {factory!r} for {len(vectors)} songs: {reason}") from None
    return index


def indexed_tracks(folder: Path) -> pa.Array:
    """Track ids of a published index, row by row."""
    return pq.read_table(folder / TRACKS_FILE)["track_id"].combine_chunks()


class SongIndex:
    """A published index, opened."""

    def __init__(self, folder: Path) -> None:
        self._index: Any = faiss.read_index(str(folder / INDEX_FILE))
        inverted = faiss.try_extract_index_ivf(self._index)
        if inverted is not None:
            inverted.make_direct_map()  # without it an inverted file does not give its vectors back
        self.tracks: list[str] = indexed_tracks(folder).to_pylist()
        self._rows = {track: row for row, track in enumerate(self.tracks)}

    def nearest(self, vectors: Float32, k: int) -> list[list[tuple[str, float]]]:
        """The k songs nearest to each unit vector [n, d], best first, with their cosine."""
        scores, rows = self._index.search(np.atleast_2d(vectors), min(k, len(self.tracks)))
        return [
            [(self.tracks[row], float(score)) for row, score in zip(*found, strict=True) if row >= 0]
            for found in zip(rows, scores, strict=True)
        ]

    def vectors(self) -> Float32:
        """The embeddings of all songs [n, d], in the order of `tracks`."""
        return np.asarray(self._index.reconstruct_n(0, len(self.tracks)), np.float32)

    def vector(self, track_id: str) -> Float32 | None:
        """The embedding of an indexed song [d], or None."""
        row = self._rows.get(track_id)
        return None if row is None else np.asarray(self._index.reconstruct(row), np.float32)
