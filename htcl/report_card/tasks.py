"""Asks one system everything: the per-query figures, those of whole sets, and recall by popularity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htcl.config import PipelineConfig
from htcl.evaluation.histories import last_songs
from htcl.evaluation.labels import Labels
from htcl.evaluation.listeners import catalog_coverage, evaluate_listeners
from htcl.evaluation.metrics import RowSets, TargetRanks, recall_of_targets
from htcl.evaluation.probes import Probe, ProbeKind, group_folds, run_probes
from htcl.evaluation.recommendation import song_metrics, song_ranks
from htcl.evaluation.results import PER_QUERY_SCHEMA, Result, Split, per_query_table
from htcl.evaluation.retrieval import evaluate_retrieval
from htcl.evaluation.tagging import MAIN_METRIC, TagScores, tag_scores
from htcl.report_card.systems import System
from htcl.report_card.world import World
from htcl.text import metadata_text

SPLITS: tuple[Split, ...] = ("cold", "cold_artist", "warm")
PROBES: tuple[ProbeKind, ...] = ("linear", "mlp")
MEAN = "mean"
"""Field that stands for all with one class a song: for each song the mean over those that it has."""
SET_SAMPLES = 200
"""Resamples behind the interval of a figure that is worked out over all songs at once."""

DECILES = pa.schema(
    [
        ("system", pa.string()),
        ("task", pa.string()),
        ("split", pa.string()),
        ("decile", pa.int64()),
        ("recall_at_10", pa.float64()),
        ("n", pa.int64()),
    ]
)
"""Recall of the songs that were to be found, by how popular they are in the whole log: 10 is the most popular tenth."""


@dataclass(frozen=True)
class Answers:
    """What one system did.

    Attributes:
        per_query: rows of PER_QUERY_SCHEMA.
        of_sets: figures that no single query has.
        deciles: rows of DECILES.
    """

    per_query: pa.Table
    of_sets: list[Result]
    deciles: pa.Table


def ask(config: PipelineConfig, world: World, system: System) -> Answers:
    """Preference, and where the system has vectors and reads texts, semantics."""
    asked = [_songs(world, system), _listeners(config, world, system)]
    if system.texts and len(world.test):
        asked += [_retrieval(config, world, system), _zero_shot(config, world, system)]
    if system.vectors is not None:
        asked += _probes(config, world, system)
    return joined(asked)


def joined(answers: Sequence[Answers]) -> Answers:
    """Several answers as one; without any it is empty."""
    return Answers(
        pa.concat_tables([PER_QUERY_SCHEMA.empty_table(), *(each.per_query for each in answers)]),
        [result for each in answers for result in each.of_sets],
        pa.concat_tables([DECILES.empty_table(), *(each.deciles for each in answers)]),
    )


def _songs(world: World, system: System) -> Answers:
    tables, deciles = [PER_QUERY_SCHEMA.empty_table()], [DECILES.empty_table()]
    for split in SPLITS:
        if split not in world.pairs or (split != "warm" and not system.cold):
            continue
        queries = world.pairs[split]
        ranks = song_ranks(system.name, system.songs, queries)
        anchors = [world.tracks[row] for row in queries.anchors]
        tables.append(per_query_table(system.name, "song_to_song", split, anchors, song_metrics(ranks)))
        deciles.append(_by_decile(world, system, "song_to_song", split, queries.relevant, ranks))
    return Answers(pa.concat_tables(tables), [], pa.concat_tables(deciles))


def _listeners(config: PipelineConfig, world: World, system: System) -> Answers:
    tables, deciles, of_sets = [PER_QUERY_SCHEMA.empty_table()], [DECILES.empty_table()], []
    recent = config.report_card.recent_songs
    for split in SPLITS:
        if split not in world.listeners or (split != "warm" and not system.cold):
            continue
        queries = world.listeners[split]
        names = [str(number) for number in queries.listeners]
        for task, histories in (
            ("user_to_song", queries.histories),
            ("user_to_song_recent", last_songs(queries.histories, recent)),
        ):
            found = evaluate_listeners(system.name, system.listeners(histories), queries, world.responses)
            tables.append(per_query_table(system.name, task, split, names, found.metrics))
            deciles.append(_by_decile(world, system, task, split, queries.relevant, found.ranks))
            coverage = catalog_coverage(found.top, queries.offered)
            of_sets.append(
                Result(system.name, task, split, "catalog_coverage", coverage, coverage, coverage, len(names))
            )
    return Answers(pa.concat_tables(tables), of_sets, pa.concat_tables(deciles))


def _by_decile(world: World, system: System, task: str, split: str, relevant: RowSets, ranks: TargetRanks) -> pa.Table:
    found, decile = recall_of_targets(ranks, 10), world.deciles[relevant.indices]
    rows = [
        {
            "system": system.name,
            "task": task,
            "split": split,
            "decile": int(each),
            "recall_at_10": float(found[decile == each].mean()),
            "n": int((decile == each).sum()),
        }
        for each in np.unique(decile)
    ]
    return pa.Table.from_pylist(rows, schema=DECILES)


def _retrieval(config: PipelineConfig, world: World, system: System) -> Answers:
    assert system.vectors is not None and system.texts is not None
    rows = world.test
    texts = system.texts([metadata_text(world.catalog[row], config.model.text_fields) for row in rows])
    found = evaluate_retrieval(system.name, system.vectors[rows], texts)
    tracks = [world.tracks[row] for row in rows]
    tables = [per_query_table(system.name, task, "test", tracks, metrics) for task, metrics in found.items()]
    return Answers(pa.concat_tables(tables), [], DECILES.empty_table())


def _zero_shot(config: PipelineConfig, world: World, system: System) -> Answers:
    """Classes by the words that name them: the cosine of a song to the prompt."""
    assert system.vectors is not None and system.texts is not None
    scores = {}
    for labels in world.labels:
        prompts = system.texts([config.report_card.zero_shot_prompt.format(name) for name in labels.classes])
        scores[labels.field] = system.vectors[world.test[labels.rows]] @ prompts.T
    return _tagging(config, world, system, "zero_shot", scores)


def _probes(config: PipelineConfig, world: World, system: System) -> list[Answers]:
    assert system.vectors is not None
    section, seed, probes = config.report_card.probes, config.evaluation.seed, []
    for labels in world.labels:
        rows = world.test[labels.rows]
        folds = group_folds(labels, world.groups[rows], section.folds, seed)
        if folds:
            probes += [Probe(system.vectors[rows], labels, folds, kind) for kind in PROBES]
    scores: dict[ProbeKind, dict[str, npt.NDArray[np.float32]]] = {kind: {} for kind in PROBES}
    for probe, logits in zip(probes, run_probes(probes, section), strict=True):
        scores[probe.kind][probe.labels.field] = logits
    return [_tagging(config, world, system, f"probe_{kind}", found) for kind, found in scores.items()]


def _tagging(
    config: PipelineConfig, world: World, system: System, task: str, scores: dict[str, npt.NDArray[np.float32]]
) -> Answers:
    tables, of_sets = [PER_QUERY_SCHEMA.empty_table()], []
    main: dict[str, list[float]] = {}
    for labels in (each for each in world.labels if each.field in scores):
        section = config.evaluation
        found: TagScores = tag_scores(labels, scores[labels.field], section.confidence, SET_SAMPLES, section.seed)
        tracks = _tracks(world, labels)
        tables.append(per_query_table(system.name, f"{task}_{labels.field}", "test", tracks, found.per_song))
        of_sets += [
            Result(system.name, f"{task}_{labels.field}", "test", metric, each.value, each.low, each.high, each.n)
            for metric, each in found.of_all.items()
        ]
        if labels.kind != "multiple":
            for track, value in zip(tracks, found.per_song[MAIN_METRIC[labels.kind]], strict=True):
                main.setdefault(track, []).append(float(value))
    if main:
        means = {MEAN: np.array([np.mean(values) for values in main.values()])}
        tables.append(per_query_table(system.name, f"{task}_{MEAN}", "test", list(main), means))
    return Answers(pa.concat_tables(tables), of_sets, DECILES.empty_table())


def _tracks(world: World, labels: Labels) -> list[str]:
    return [world.tracks[row] for row in world.test[labels.rows]]
