"""The report box: what the run's artifacts say, gathered into one page."""

from __future__ import annotations

import platform
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig, fingerprint
from htcl.evaluation.gate_set import read_gate_songs
from htcl.evaluation.results import PER_QUERY_FILE, RESULTS_FILE, SYSTEMS, Result, from_table
from htcl.ingest.catalog import read_catalog
from htcl.logs import get_logger, log
from htcl.pairs import PAIRS_FOLDER
from htcl.plan import Step, plan
from htcl.publish import Judgement, read_judgement
from htcl.report import BRIDGE_FILE, REPORT_FILE, report_path
from htcl.report.bridge import Bridge, Kind, bridge
from htcl.report.card import card_section
from htcl.report.curves import read_curve
from htcl.report.data import Figure, Headline, LineageRow, MapPoint, QueryResult, ResultRow
from htcl.report.errors import NEIGHBOURS, Neighbours, WorstText, example_songs, worst_texts
from htcl.report.funnel import funnel_rows, reject_rows
from htcl.report.page import ReportData
from htcl.report.projection import MAX_POINTS, project_2d
from htcl.report.quality import quality_rows, unusual
from htcl.report.queries import Catalog, Songs, hits, previews, read_queries, words
from htcl.report.render import render, render_bridge, shown_bridge
from htcl.search.index import read_embeddings
from htcl.shards.index import read_index
from htcl.text import TextColumn, metadata_text

KINDS = ("catalog", "pairs", "shards", "stage1", "stage2", "gate_set", "evaluation")
PACKAGES = ("htcl", "torch", "deepspeed", "pyspark", "prefect", "transformers", "deltalake", "faiss-cpu")


def build_report(config: PipelineConfig, step: Step) -> None:
    """Write the report and publish it as an artifact."""
    store = ArtifactStore(config.workspace)
    with store.create(step.recipe) as draft:
        key = step.recipe.inputs.get("report_card")
        card = store.fetch("report_card", key) if key else None
        data = _report_data(config, store, _manifests(store, step), card)
        (draft.path / REPORT_FILE).write_text(render(data), encoding="utf-8")
        if picture := shown_bridge(data):
            (draft.path / BRIDGE_FILE).write_text(render_bridge(picture), encoding="utf-8")
    log(get_logger("report"), "report published", path=f"{store.content('report', step.key)}/{REPORT_FILE}")


def report_with_card(config: PipelineConfig, card: str) -> Path | None:
    """The report of a finished run once more, with a report card.

    Args:
        config: that was run.
        card: key of the card.

    Returns:
        Where the page lies; None where the run has not been evaluated.
    """
    planned = plan(config)["report"].recipe
    store, recipe = ArtifactStore(config.workspace), replace(planned, inputs={**planned.inputs, "report_card": card})
    if not store.published("evaluation", planned.inputs["evaluation"]):
        return None
    if not store.published("report", recipe.key):
        build_report(config, Step("report", recipe, False, ""))
    return report_path(config.workspace, recipe.key)


def _report_data(
    config: PipelineConfig, store: ArtifactStore, manifests: dict[str, dict[str, Any]], card: Path | None
) -> ReportData:
    catalog = _catalog(store, manifests)
    before, songs = (_songs(config, store, manifests, stage) for stage in ("stage1", "stage2"))
    pairs, evaluation = (store.fetch(kind, manifests[kind]["key"]) for kind in ("pairs", "evaluation"))
    results, per_query = (pq.read_table(evaluation / file) for file in (RESULTS_FILE, PER_QUERY_FILE))
    queries = read_queries(config, store, manifests["stage2"]["key"], catalog, songs)
    neighbours = _neighbours(per_query, before, songs, catalog, _liked(pairs))
    errors = _worst(per_query, catalog, config.model.text_fields)
    return ReportData(
        name=config.name,
        created=datetime.fromisoformat(manifests["evaluation"]["created"]),
        headline=_headline(config, from_table(results), manifests),
        funnel=funnel_rows(manifests),
        rejects=reject_rows(config.workspace),
        quality=quality_rows(pairs),
        unusual=unusual(manifests["pairs"]["figures"]),
        curves=[read_curve(store.fetch(stage, manifests[stage]["key"]), stage) for stage in ("stage1", "stage2")],
        bridge=_bridge(from_table(results)),
        card=card_section(card) if card else None,
        results=_results(from_table(results)),
        points=_map(songs, catalog),
        queries=queries,
        neighbours=neighbours,
        errors=errors,
        previews=previews(config, _shown(queries, neighbours, errors), catalog),
        lineage=[_lineage(manifests[kind]) for kind in KINDS],
        environment={
            "config": fingerprint(config),
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        searched=len(songs.tracks),
        songs=manifests["shards"]["figures"]["tracks"],
        summary="From logs, catalog and audio to searchable song embeddings, evaluated on songs and pairs held out.",
    )


def _manifests(store: ArtifactStore, step: Step) -> dict[str, dict[str, Any]]:
    """The manifests of everything the report stands on, by kind."""
    found = {"evaluation": store.manifest("evaluation", step.recipe.inputs["evaluation"])}
    found["gate_set"] = store.manifest("gate_set", found["evaluation"]["inputs"]["gate_set"])
    for kind in ("stage1", "stage2", "pairs", "shards", "catalog"):
        found[kind] = store.manifest(kind, found["gate_set"]["inputs"][kind])
    return found


def _catalog(store: ArtifactStore, manifests: dict[str, dict[str, Any]]) -> Catalog:
    """Songs with their side, which the shards decide: a group that held-out artists cut trains as a whole."""
    rows = read_catalog(store.fetch("catalog", manifests["catalog"]["key"])).to_pylist()
    index = read_index(store.fetch("shards", manifests["shards"]["key"]))
    sides = dict(zip(index["track_id"].to_pylist(), index["split"].to_pylist(), strict=True))
    return {row["track_id"]: {**row, "split": sides.get(row["track_id"], row["split"])} for row in rows}


def _headline(config: PipelineConfig, rows: list[Result], manifests: dict[str, dict[str, Any]]) -> list[Headline]:
    results: dict[tuple[str, ...], Result] = {(r.system, r.task, r.split, r.metric): r for r in rows}
    found = [Headline("songs", [Figure(manifests["shards"]["figures"]["tracks"])])]
    found.append(Headline("training pairs", [Figure(manifests["pairs"]["figures"]["pairs_by_split"]["train"])]))
    for label, figure in (
        ("text to audio · recall@10", ("text_to_audio", "test", "recall_at_10")),
        ("song to song, cold · ndcg@10", ("song_to_song", "cold", "ndcg_at_10")),
    ):
        stages = [results.get((system, *figure)) for system in ("stage2", "stage1")]
        figures = [Figure(round(r.value, 3), r.system, r.low, r.high) for r in stages if r]
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


def _results(results: list[Result]) -> list[ResultRow]:
    rows = sorted(results, key=lambda row: SYSTEMS.index(row.system))
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


def _songs(config: PipelineConfig, store: ArtifactStore, manifests: dict[str, dict[str, Any]], stage: str) -> Songs:
    """The gate set as a stage embedded it."""
    gate_set = manifests["gate_set"]
    version, chosen = gate_set["tables"]["embeddings"], read_gate_songs(store, gate_set["key"])
    return Songs(*read_embeddings(config.workspace, gate_set["inputs"][stage], version, chosen)[:2])


def _map(songs: Songs, catalog: Catalog) -> list[MapPoint]:
    chosen = np.sort(np.random.default_rng(0).permutation(len(songs.tracks))[:MAX_POINTS])
    points = project_2d(songs.vectors[chosen], seed=0)
    return [
        MapPoint(track, *words(catalog[track]), float(x), float(y))
        for track, (x, y) in zip((songs.tracks[row] for row in chosen), points, strict=True)
    ]


def _bridge(results: list[Result]) -> Bridge | None:
    """Both stages by the figures of every run: their own texts find songs, and who likes new ones."""
    semantic, preference = ("text_to_audio", "test", "recall_at_10"), ("song_to_song", "cold", "ndcg_at_10")
    xs, ys = ({r.system: r for r in results if (r.task, r.split, r.metric) == each} for each in (semantic, preference))
    kinds: dict[str, Kind] = {name: "ours" if name in ("stage1", "stage2") else "competitor" for name in SYSTEMS}
    return bridge(xs, ys, kinds, "what songs are: text to audio, recall@10", "who likes new ones: cold songs, ndcg@10")


def _neighbours(
    per_query: pa.Table, before: Songs, after: Songs, catalog: Catalog, liked: dict[str, frozenset[str]]
) -> list[Neighbours]:
    rows = {track: row for row, track in enumerate(after.tracks)}
    return [
        Neighbours(
            why,
            track,
            *words(catalog[track]),
            before=hits(before.like(rows[track], NEIGHBOURS), catalog),
            after=hits(after.like(rows[track], NEIGHBOURS), catalog),
            gain=gain,
            liked=liked.get(track, frozenset()),
        )
        for why, track, gain in example_songs(per_query)
        if track in rows
    ]


def _liked(pairs: Path) -> dict[str, frozenset[str]]:
    """Held-out positives of each cold song."""
    chosen = pc.field("split") == "test_cold"
    table = ds.dataset(pairs / PAIRS_FOLDER, format="parquet").to_table(["anchor_id", "positive_id"], filter=chosen)
    found: dict[str, set[str]] = {}
    for row in table.to_pylist():
        found.setdefault(row["anchor_id"], set()).add(row["positive_id"])
    return {track: frozenset(tracks) for track, tracks in found.items()}


def _worst(per_query: pa.Table, catalog: Catalog, fields: list[TextColumn]) -> list[WorstText]:
    return worst_texts(per_query, lambda track: (catalog[track]["title"], metadata_text(catalog[track], fields)))


def _shown(queries: list[QueryResult], neighbours: list[Neighbours], errors: list[WorstText]) -> list[str]:
    """Tracks that stand on the page beside the map, in the order in which they get a player."""
    tracks = [track for q in queries for track in [q.track_id, *(hit.track_id for hit in q.hits)]]
    for each in neighbours:
        tracks += [each.track_id, *(hit.track_id for hit in (*each.before, *each.after))]
    tracks += [each.track_id for each in errors]
    return list(dict.fromkeys(track for track in tracks if track))


def _lineage(manifest: dict[str, Any]) -> LineageRow:
    return LineageRow(
        kind=manifest["kind"],
        key=manifest["key"],
        step_version=manifest["step_version"],
        created=datetime.fromisoformat(manifest["created"]),
        seconds=manifest["seconds"],
    )
