"""The report box: what the run's artifacts say, gathered into one page."""

from __future__ import annotations

import base64
import platform
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from htcl.artifacts import ArtifactStore
from htcl.audio.decode import AudioRejected, decode_audio, resolve_audio_path
from htcl.audio.preview import encode_preview
from htcl.config import PipelineConfig, fingerprint
from htcl.evaluation.gate_set import read_gate_songs
from htcl.evaluation.results import RESULTS_FILE, SYSTEMS, Result, from_table
from htcl.ingest.catalog import read_catalog
from htcl.logs import Progress, get_logger, log
from htcl.plan import Step, audio_root
from htcl.publish import Judgement, read_judgement
from htcl.report import REPORT_FILE
from htcl.report.curves import read_curve
from htcl.report.data import (
    Figure,
    Headline,
    Hit,
    LineageRow,
    MapPoint,
    QueryResult,
    ReportData,
    ResultRow,
)
from htcl.report.funnel import funnel_rows, reject_rows
from htcl.report.projection import MAX_POINTS, project_2d
from htcl.report.render import render
from htcl.search.index import read_embeddings

Float32 = npt.NDArray[np.float32]

SIMILAR_QUERIES = 2
HITS = 5
KINDS = ("catalog", "pairs", "shards", "stage1", "stage2", "gate_set", "evaluation")
PACKAGES = ("htcl", "torch", "deepspeed", "pyspark", "prefect", "transformers", "deltalake", "faiss-cpu")


def build_report(config: PipelineConfig, step: Step) -> None:
    """Write the report and publish it as an artifact."""
    store = ArtifactStore(config.workspace)
    with store.create(step.recipe) as draft:
        data = _report_data(config, store, _manifests(store, step))
        (draft.path / REPORT_FILE).write_text(render(data), encoding="utf-8")
    log(get_logger("report"), "report published", path=f"{store.content('report', step.key)}/{REPORT_FILE}")


def _report_data(config: PipelineConfig, store: ArtifactStore, manifests: dict[str, dict[str, Any]]) -> ReportData:
    catalog = _catalog(store, manifests)
    songs = _songs(config, store, manifests)
    queries = _queries(config, store, manifests, catalog, songs)
    return ReportData(
        name=config.name,
        created=datetime.fromisoformat(manifests["evaluation"]["created"]),
        headline=_headline(config, store, manifests),
        funnel=funnel_rows(manifests),
        rejects=reject_rows(config.workspace),
        curves=[read_curve(store.fetch(stage, manifests[stage]["key"]), stage) for stage in ("stage1", "stage2")],
        results=_results(store, manifests),
        points=_map(songs, catalog),
        queries=queries,
        previews=_previews(config, queries, catalog),
        lineage=[_lineage(manifests[kind]) for kind in KINDS],
        environment={
            "config": fingerprint(config),
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        summary="From logs, catalog and audio to searchable song embeddings, evaluated on songs and pairs held out.",
    )


def _manifests(store: ArtifactStore, step: Step) -> dict[str, dict[str, Any]]:
    """The manifests of everything the report stands on, by kind."""
    found = {"evaluation": store.manifest("evaluation", step.recipe.inputs["evaluation"])}
    found["gate_set"] = store.manifest("gate_set", found["evaluation"]["inputs"]["gate_set"])
    for kind in ("stage1", "stage2", "pairs", "shards", "catalog"):
        found[kind] = store.manifest(kind, found["gate_set"]["inputs"][kind])
    return found


def _catalog(store: ArtifactStore, manifests: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    columns = ["track_id", "title", "artist", "genre", "audio_path", "split"]
    rows = read_catalog(store.fetch("catalog", manifests["catalog"]["key"]), columns).to_pylist()
    return {row["track_id"]: row for row in rows}


def _headline(config: PipelineConfig, store: ArtifactStore, manifests: dict[str, dict[str, Any]]) -> list[Headline]:
    results: dict[tuple[str, ...], Result] = {
        (row.system, row.task, row.split, row.metric): row
        for row in from_table(pq.read_table(store.fetch("evaluation", manifests["evaluation"]["key"]) / RESULTS_FILE))
    }
    found = [Headline("songs", [Figure(manifests["shards"]["figures"]["tracks"])])]
    found.append(Headline("training pairs", [Figure(manifests["pairs"]["figures"]["pairs_by_split"]["train"])]))
    for label, figure in (
        ("text to audio · recall@10", ("text_to_audio", "test", "recall_at_10")),
        ("song to song, cold · ndcg@10", ("song_to_song", "cold", "ndcg_at_10")),
    ):
        rows = [results.get((system, *figure)) for system in ("stage2", "stage1")]
        figures = [Figure(round(r.value, 3), r.system, r.low, r.high) for r in rows if r]
        if figures:
            found.append(Headline(label, figures))
    if judgement := read_judgement(config.workspace, manifests["stage2"]["key"]):
        word, tone = ("passed", "good") if judgement.promote else ("kept champion", "bad")
        found.append(Headline("gate", [Figure(word)], note=" ".join(judgement.reasons), tone=tone))  # type: ignore[arg-type]
        if judgement.drift:
            found.append(_drift(judgement))
    return found


def _drift(judgement: Judgement) -> Headline:
    """How far songs moved from where the champion has them."""
    assert judgement.drift is not None
    overlap, aligned = judgement.drift["neighbour_overlap"], judgement.drift["aligned"]
    figures = [Figure(f"{overlap:.0%}", "neighbours kept"), Figure(round(aligned, 3), "cosine distance left")]
    note = f"against champion {judgement.champion}, over {judgement.drift['songs']} songs; after the best rotation"
    return Headline("drift", figures, note=note)


def _results(store: ArtifactStore, manifests: dict[str, dict[str, Any]]) -> list[ResultRow]:
    table = pq.read_table(store.fetch("evaluation", manifests["evaluation"]["key"]) / RESULTS_FILE)
    rows = sorted(from_table(table), key=lambda row: SYSTEMS.index(row.system))
    return [
        ResultRow(
            system=row.system,
            task=row.task,
            split=row.split,
            metric=row.metric,
            value=row.value,
            low=row.low,
            high=row.high,
            n=row.n,
            higher_is_better=row.metric != "median_rank",
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Songs:
    """The gate set in the space of stage 2: tracks [n] and unit embeddings [n, d]."""

    tracks: list[str]
    vectors: Float32

    def nearest(self, vector: Float32, k: int) -> list[tuple[str, float]]:
        """The k songs nearest to a unit vector [d], best first, with their cosine."""
        scores = self.vectors @ vector
        best = np.argsort(-scores, kind="stable")[:k]
        return [(self.tracks[row], float(scores[row])) for row in best]


def _songs(config: PipelineConfig, store: ArtifactStore, manifests: dict[str, dict[str, Any]]) -> Songs:
    gate_set = manifests["gate_set"]
    version, chosen = gate_set["tables"]["embeddings"], read_gate_songs(store, gate_set["key"])
    return Songs(*read_embeddings(config.workspace, gate_set["inputs"]["stage2"], version, chosen)[:2])


def _map(songs: Songs, catalog: dict[str, dict[str, Any]]) -> list[MapPoint]:
    chosen = np.sort(np.random.default_rng(0).permutation(len(songs.tracks))[:MAX_POINTS])
    points = project_2d(songs.vectors[chosen], seed=0)
    return [
        MapPoint(track, *_words(catalog[track]), float(x), float(y))
        for track, (x, y) in zip((songs.tracks[row] for row in chosen), points, strict=True)
    ]


def _words(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["title"], row["artist"] or "", row["genre"] or ""


def _queries(
    config: PipelineConfig,
    store: ArtifactStore,
    manifests: dict[str, dict[str, Any]],
    catalog: dict[str, dict[str, Any]],
    songs: Songs,
) -> list[QueryResult]:
    """The configured searches, and neighbours of a few songs that no training saw."""

    def hits(found: list[tuple[str, float]]) -> list[Hit]:
        return [Hit(track, *_words(catalog[track]), score) for track, score in found]

    queries = []
    texts = config.report.text_queries
    if texts:
        from htcl.embeddings.embedder import SongEmbedder

        model_id = manifests["stage2"]["key"]
        folder = str(store.fetch("stage2", model_id))
        vectors = SongEmbedder.load(folder, model_id, "cpu").embed_texts(texts)  # a GPU may be embedding the catalog
        found = [songs.nearest(vector, HITS) for vector in vectors]
        queries = [QueryResult("text", text, hits(top)) for text, top in zip(texts, found, strict=True)]
    held_out = [row for row, track in enumerate(songs.tracks) if catalog[track]["split"] == "test"]
    for row in held_out[:SIMILAR_QUERIES]:
        track = songs.tracks[row]
        near = [hit for hit in songs.nearest(songs.vectors[row], HITS + 1) if hit[0] != track][:HITS]
        queries.append(QueryResult("song", catalog[track]["title"], hits(near), track_id=track))
    return queries


def _previews(config: PipelineConfig, queries: list[QueryResult], catalog: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Short MP3s of the songs shown, as data URIs, as many as the config allows."""
    shown = [track for q in queries for track in [q.track_id, *(hit.track_id for hit in q.hits)] if track]
    chosen = list(dict.fromkeys(shown))[: config.report.previews]
    progress, previews = Progress(get_logger("report"), "previews", len(chosen)), {}
    for number, track in enumerate(chosen, start=1):
        try:
            path = resolve_audio_path(audio_root(config), catalog[track]["audio_path"])
            audio = decode_audio(path, max_seconds=30.0)
        except AudioRejected:
            continue  # the file changed since it was embedded; the page does without its player
        data = base64.b64encode(encode_preview(audio.samples, audio.sample_rate)).decode()
        previews[track] = f"data:audio/mpeg;base64,{data}"
        progress.update(number)
    return previews


def _lineage(manifest: dict[str, Any]) -> LineageRow:
    return LineageRow(
        kind=manifest["kind"],
        key=manifest["key"],
        step_version=manifest["step_version"],
        created=datetime.fromisoformat(manifest["created"]),
        seconds=manifest["seconds"],
    )
