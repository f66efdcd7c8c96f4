"""The evaluation box: every system on the same held-out songs and pairs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from htcl.artifacts import ArtifactStore
from htcl.champion import ancestors
from htcl.config import PipelineConfig
from htcl.embeddings.embedder import SongEmbedder
from htcl.errors import HTCLError
from htcl.evaluation.baselines.text_alone import text_alone
from htcl.evaluation.bootstrap import paired_difference
from htcl.evaluation.collapse import directed
from htcl.evaluation.gate_set import read_gate_songs
from htcl.evaluation.held_out import check_groups, on_two_sides
from htcl.evaluation.pairs import held_out_queries
from htcl.evaluation.recommendation import evaluate_song_to_song
from htcl.evaluation.results import (
    LOST,
    PER_QUERY_FILE,
    RESULTS_FILE,
    Split,
    Task,
    per_query_table,
    shared_queries,
    summarise,
    to_table,
)
from htcl.evaluation.retrieval import evaluate_retrieval, rank_own_answer
from htcl.evaluation.scorers import Scorer, embedding_scorer, popularity_scorer, random_scorer
from htcl.ingest.catalog import read_catalog
from htcl.logs import Progress, get_logger, log
from htcl.pairs import POPULARITY_FOLDER
from htcl.plan import Step
from htcl.search.index import read_embeddings
from htcl.shards.index import read_index, rows_of
from htcl.text import metadata_text

COMPARISONS_FILE = "comparisons.json"

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Songs:
    """The candidates of every system, row by row.

    Attributes:
        tracks: track ids [n], sorted.
        splits: side of each [n].
        audio: model -> unit audio embeddings [n, d].
        texts: metadata text of each [n].
        lost: model -> songs whose embedding has no direction; they have a random one in `audio`.
    """

    tracks: list[str]
    splits: npt.NDArray[np.str_]
    audio: dict[str, Float32]
    texts: list[str]
    lost: dict[str, int]


def evaluate(config: PipelineConfig, step: Step) -> None:
    """Compare random, popularity, text alone, stage 1 and stage 2; publish the evaluation artifact.

    Raises:
        HTCLError: when a split group stands on two sides, or nothing is held out.
    """
    store = ArtifactStore(config.workspace)
    with store.create(step.recipe) as draft:
        gate_set = store.manifest("gate_set", step.recipe.inputs["gate_set"])
        models = {
            name: SongEmbedder.load(str(store.fetch(name, gate_set["inputs"][name])), gate_set["inputs"][name])
            for name in ("stage1", "stage2")
        }
        songs = _songs(config, store, gate_set, models["stage2"].processor.text_fields)
        pairs = store.fetch("pairs", step.recipe.inputs["pairs"])
        retrieval, texts_lost = _retrieval(models, songs, config)
        per_query = pa.concat_tables([retrieval, _recommendation(config, songs, pairs)])
        if not len(per_query):
            raise HTCLError("evaluation: no song is held out; raise split.test_share")
        section = config.evaluation
        results = summarise(per_query, section.confidence, section.bootstrap_samples, section.seed)
        pq.write_table(per_query, draft.path / PER_QUERY_FILE)
        pq.write_table(to_table(results), draft.path / RESULTS_FILE)
        comparisons = compare(per_query, "stage2", "stage1", config)
        (draft.path / COMPARISONS_FILE).write_text(json.dumps(comparisons, indent=1))
        draft.figures = {"songs": len(songs.tracks), "test_songs": int((songs.splits == "test").sum())}
        draft.figures[LOST] = songs.lost["stage2"] + texts_lost
    log(get_logger("evaluation"), "evaluation published", **draft.figures)


def compare(per_query: pa.Table, a: str, b: str, config: PipelineConfig) -> list[dict[str, Any]]:
    """Paired difference a - b of every figure that both systems have, with its interval."""
    one, other = (per_query.filter(pc.field("system") == system) for system in (a, b))
    rows = []
    for figure in one.group_by(["task", "split", "metric"]).aggregate([]).to_pylist():
        if figure["metric"] == "median_rank":
            continue
        left, right = shared_queries(one, other, **figure)
        if len(left):
            section = config.evaluation
            found = paired_difference(
                left, right, confidence=section.confidence, samples=section.bootstrap_samples, seed=section.seed
            )
            values = {a: float(left.mean()), b: float(right.mean())}
            rows.append({**figure, **values, "difference": asdict(found)})
    return sorted(rows, key=lambda row: (row["task"], row["split"], row["metric"]))


def _songs(config: PipelineConfig, store: ArtifactStore, gate_set: dict[str, Any], text_fields: list[str]) -> Songs:
    """The gate set as both models embedded it; test songs whose audio stands on another side too are left out.

    A song that a model was trained on, or a version of it, is none of its held-out songs, whatever the split says
    today: a corrected split_group or another seed moves songs that an older champion knows.
    """
    inputs, version = gate_set["inputs"], gate_set["tables"]["embeddings"]
    index = read_index(store.fetch("shards", inputs["shards"]))
    check_groups(index)
    chosen = read_gate_songs(store, gate_set["key"])
    found = {name: read_embeddings(config.workspace, inputs[name], version, chosen) for name in ("stage1", "stage2")}
    tracks = sorted(set(chosen.to_pylist()) - on_two_sides(index))
    audio = {}
    for name, (ids, vectors, _) in found.items():
        place = {track: row for row, track in enumerate(ids)}
        audio[name] = vectors[[place[track] for track in tracks]]
    rows = rows_of(index, pa.array(tracks))
    splits = np.asarray(index["split"].take(pa.array(rows))).astype(str)
    groups = index["split_group"].take(pa.array(rows))
    known = _trained_on(store, inputs["stage2"], index)
    trained = np.asarray(pc.is_in(groups, value_set=index.filter(known)["split_group"].combine_chunks()))
    moved = trained & (splits != "train")
    if moved.any():
        log(get_logger("evaluation"), "songs that the model was trained on are not held out", songs=int(moved.sum()))
    catalog = read_catalog(store.fetch("catalog", inputs["catalog"]))
    described = catalog.take(pa.array(rows_of(catalog.select(["track_id"]), pa.array(tracks)))).to_pylist()
    texts = [metadata_text(row, text_fields) for row in described]
    ranked = {name: directed(vectors, config.evaluation.seed) for name, vectors in audio.items()}
    directions = {name: vectors for name, (vectors, _) in ranked.items()}
    lost = {name: number for name, (_, number) in ranked.items()}
    return Songs(tracks, np.where(moved, "train", splits), directions, texts, lost)


def _trained_on(store: ArtifactStore, model_id: str, index: pa.Table) -> pa.ChunkedArray:
    """Whether a stage-2 model, or what it was trained from, saw a row's song in training, under whatever track id.

    Args:
        store: of the workspace.
        model_id: key of the model.
        index: of today.
    """
    models = [found for model in (model_id, *ancestors(store, model_id)) if (found := store.lineage("stage2", model))]
    seen = {name: pa.array([], index.schema.field(name).type) for name in ("track_id", "content_hash")}
    for key in sorted({model["inputs"]["shards"] for model in models}):
        then = read_index(store.fetch("shards", key))
        trained = then.filter(pc.field("split") == "train")
        seen = {name: pc.unique(pa.concat_arrays([old, *trained[name].chunks])) for name, old in seen.items()}
    return pc.or_(*(pc.is_in(index[name], value_set=old) for name, old in seen.items()))


def _retrieval(models: dict[str, SongEmbedder], songs: Songs, config: PipelineConfig) -> tuple[pa.Table, int]:
    """Text to audio and back among the test songs, and apart among the validation songs.

    Returns:
        Per-query figures, and how many texts stage 2 gives no direction; they rank by chance.
    """
    texts_lost = Counter[str]()
    tables = [per_query_table("random", "text_to_audio", "test", [], {})]
    sides: list[Split] = ["test", "validation"]
    for side in sides:
        held_out = np.flatnonzero(songs.splits == side)
        if not len(held_out):
            continue
        tracks, texts = [songs.tracks[row] for row in held_out], [songs.texts[row] for row in held_out]
        chance = rank_own_answer("random", random_scorer(len(tracks), config.evaluation.seed), len(tracks))
        tasks: list[Task] = ["text_to_audio", "audio_to_text"]
        tables += [per_query_table("random", task, side, tracks, chance) for task in tasks]
        for name, embedder in models.items():
            queries, lost = directed(embedder.embed_texts(texts), config.evaluation.seed)
            texts_lost[name] += lost
            found = evaluate_retrieval(name, songs.audio[name][held_out], queries)
            tables += [per_query_table(name, task, side, tracks, metrics) for task, metrics in found.items()]
    return pa.concat_tables(tables), texts_lost["stage2"]


def _recommendation(config: PipelineConfig, songs: Songs, pairs: Path) -> pa.Table:
    """Held-out positives of warm, of cold and of validation songs among the gate set."""
    scorers, tables = _scorers(config, songs, pairs), []
    splits: list[Split] = ["cold", "warm", "validation"]
    progress = Progress(get_logger("evaluation"), "songs for songs", len(splits) * len(scorers))
    for split in splits:
        queries = held_out_queries(pairs, split, songs.tracks, songs.splits)
        if queries is None:
            log(get_logger("evaluation"), "no held-out pairs", split=split)
            continue
        anchors = [songs.tracks[row] for row in queries.anchors]
        for system, scorer in scorers.items():
            metrics = evaluate_song_to_song(system, scorer, queries)
            tables.append(per_query_table(system, "song_to_song", split, anchors, metrics))
            progress.update(len(tables), system=system, split=split)
    return pa.concat_tables(tables) if tables else per_query_table("random", "song_to_song", "cold", [], {})


def _scorers(config: PipelineConfig, songs: Songs, pairs: Path) -> dict[str, Scorer]:
    counts = ds.dataset(pairs / POPULARITY_FOLDER, format="parquet").to_table()
    plays = dict(zip(counts["track_id"].to_pylist(), counts["n_baskets"].to_pylist(), strict=True))
    return {
        "random": random_scorer(len(songs.tracks), config.evaluation.seed),
        "popularity": popularity_scorer(np.array([plays.get(track, 0) for track in songs.tracks])),
        "text alone": embedding_scorer(text_alone(config, songs.texts)),
        **{name: embedding_scorer(vectors) for name, vectors in songs.audio.items()},
    }
