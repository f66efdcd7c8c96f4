"""The report box: what the run's artifacts say, gathered into one page."""

from __future__ import annotations

import base64
import json
import platform
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from htcl.artifacts import ArtifactStore
from htcl.audio.decode import AudioRejected, decode_audio, resolve_audio_path
from htcl.audio.preview import encode_preview
from htcl.config import PipelineConfig, fingerprint
from htcl.embeddings.embedder import SongEmbedder
from htcl.evaluation.results import RESULTS_FILE, SYSTEMS, Result, from_table
from htcl.ingest.catalog import read_catalog
from htcl.logs import Progress, get_logger, log
from htcl.plan import Step, audio_root
from htcl.publish import read_decision
from htcl.report import REPORT_FILE
from htcl.report.data import (
    Curve,
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
from htcl.search.index import SongIndex, read_embeddings
from htcl.training.card import METRICS_FILE

SIMILAR_QUERIES = 2
HITS = 5
KINDS = ("catalog", "pairs", "shards", "stage1", "stage2", "embeddings", "index", "evaluation")
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
    queries = _queries(config, store, manifests, catalog)
    return ReportData(
        name=config.name,
        created=datetime.fromisoformat(manifests["evaluation"]["created"]),
        headline=_headline(config, store, manifests),
        funnel=funnel_rows(manifests),
        rejects=reject_rows(config.workspace),
        curves=[_curve(store, manifests[stage]) for stage in ("stage1", "stage2")],
        results=_results(store, manifests),
        points=_map(config, manifests, catalog),
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
    found = {kind: store.manifest(kind, step.recipe.inputs[kind]) for kind in ("evaluation", "index")}
    found["embeddings"] = store.manifest("embeddings", found["evaluation"]["inputs"]["embeddings"])
    found["pairs"] = store.manifest("pairs", found["evaluation"]["inputs"]["pairs"])
    for kind in ("stage1", "stage2", "shards", "catalog"):
        found[kind] = store.manifest(kind, found["embeddings"]["inputs"][kind])
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
    found = [Headline("songs embedded", [Figure(manifests["index"]["figures"]["songs"])])]
    found.append(Headline("training pairs", [Figure(manifests["pairs"]["figures"]["pairs_by_split"]["train"])]))
    for label, figure in (
        ("text to audio · recall@10", ("text_to_audio", "test", "recall_at_10")),
        ("song to song, cold · ndcg@10", ("song_to_song", "cold", "ndcg_at_10")),
    ):
        rows = [results.get((system, *figure)) for system in ("stage2", "stage1")]
        figures = [Figure(round(r.value, 3), r.system, r.low, r.high) for r in rows if r]
        if figures:
            found.append(Headline(label, figures))
    if decision := read_decision(config.workspace, manifests["stage2"]["key"]):
        word, tone = ("promoted", "good") if decision["promote"] else ("kept champion", "bad")
        found.append(Headline("gate", [Figure(word)], note=" ".join(decision["reasons"]), tone=tone))  # type: ignore[arg-type]
    return found


def _curve(store: ArtifactStore, manifest: dict[str, Any]) -> Curve:
    lines = (store.fetch(manifest["kind"], manifest["key"]) / METRICS_FILE).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    names = [n for n in ("loss", "audio_text", "audio_audio", "audio_fusion") if n in records[0]]
    if manifest["kind"] == "stage1":
        names = ["loss"]  # its one term is the loss
    series = {name: [float(record[name]) for record in records] for name in names}
    return Curve(manifest["kind"], [int(record["global_step"]) for record in records], series)


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


def _map(
    config: PipelineConfig, manifests: dict[str, dict[str, Any]], catalog: dict[str, dict[str, Any]]
) -> list[MapPoint]:
    embeddings = manifests["embeddings"]
    tracks, vectors, _ = read_embeddings(
        config.workspace, embeddings["inputs"]["stage2"], embeddings["tables"]["embeddings"]
    )
    chosen = np.sort(np.random.default_rng(0).permutation(len(tracks))[:MAX_POINTS])
    points = project_2d(vectors[chosen], seed=0)
    return [
        MapPoint(track, *_words(catalog[track]), float(x), float(y))
        for track, (x, y) in zip((tracks[row] for row in chosen), points, strict=True)
    ]


def _words(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["title"], row["artist"] or "", row["genre"] or ""


def _queries(
    config: PipelineConfig,
    store: ArtifactStore,
    manifests: dict[str, dict[str, Any]],
    catalog: dict[str, dict[str, Any]],
) -> list[QueryResult]:
    """The configured searches, and neighbours of a few songs that no training saw."""
    index = SongIndex(store.fetch("index", manifests["index"]["key"]))

    def hits(found: list[tuple[str, float]]) -> list[Hit]:
        return [Hit(track, *_words(catalog[track]), score) for track, score in found]

    queries = []
    texts = config.report.text_queries
    if texts:
        model_id = manifests["stage2"]["key"]
        vectors = SongEmbedder.load(str(store.fetch("stage2", model_id)), model_id).embed_texts(texts)
        found = index.nearest(vectors, HITS)
        queries = [QueryResult("text", text, hits(top)) for text, top in zip(texts, found, strict=True)]
    for track in [t for t in index.tracks if catalog[t]["split"] == "test"][:SIMILAR_QUERIES]:
        vector = index.vector(track)
        assert vector is not None
        near = [hit for hit in index.nearest(vector, HITS + 1)[0] if hit[0] != track][:HITS]
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
