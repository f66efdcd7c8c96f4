"""The report card itself: pooled figures, what stage 2 gains over each system, and where it loses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from htcl.config import EvaluationConfig
from htcl.evaluation.bootstrap import Interval
from htcl.evaluation.results import RESULTS_FILE, Result, from_table, to_table
from htcl.report_card.answers import DECILES_FILE, RunAnswers
from htcl.report_card.pooling import Figure, Pooled, compared, differences, pool
from htcl.report_card.records import write_records
from htcl.report_card.systems import mapped_name
from htcl.report_card.tasks import MEAN
from htcl.report_card.variants import STAGE1, STAGE2, VARIANTS

KIND = "report_card"
STEP_VERSION = 2
CARD_FILE = "card.json"

PREFERENCE: Figure = ("song_to_song", "cold", "ndcg_at_10")
SEMANTIC: Figure = (f"probe_linear_{MEAN}", "test", MEAN)
"""Axes of the bridge: who likes new songs, and what songs are."""
RETRIEVAL: Figure = ("text_to_audio", "test", "recall_at_10")
KEPT_SHARE = 0.99
"""Of stage 1's retrieval, which stage 2 is held to."""
HEADLINES: tuple[tuple[str, Figure], ...] = (
    ("cold songs, song to song", PREFERENCE),
    ("songs of cold artists, song to song", ("song_to_song", "cold_artist", "ndcg_at_10")),
    ("known songs, song to song", ("song_to_song", "warm", "ndcg_at_10")),
    ("cold songs for listeners", ("user_to_song", "cold", "ndcg_at_10")),
    ("songs of cold artists for listeners", ("user_to_song", "cold_artist", "ndcg_at_10")),
    ("known songs for listeners", ("user_to_song", "warm", "ndcg_at_10")),
    ("text to audio", RETRIEVAL),
    ("audio to text", ("audio_to_text", "test", "recall_at_10")),
    ("linear probes", SEMANTIC),
    ("MLP probes", (f"probe_mlp_{MEAN}", "test", MEAN)),
    ("zero-shot tagging", (f"zero_shot_{MEAN}", "test", MEAN)),
)
"""What the card is read for: a name and a (task, split, metric) that is better the higher it is."""
OURS = (*(variant.name for variant in VARIANTS), mapped_name(STAGE2))
OF_STAGE2 = tuple(name for name in OURS if name.startswith(f"{STAGE2} "))
"""Stage 2 with a part left out, or with listeners by ALS: no competitors, but what shows which part does what."""


@dataclass(frozen=True)
class Verdict:
    """Stage 2 against another system on one headline.

    Attributes:
        headline: name of the figure.
        task: of the figure.
        split: likewise.
        metric: likewise.
        system: the other one.
        difference: stage 2 - system, paired by query, with its interval over queries.
        runs: the same in each run.
        best: whether the system is the best of the competitors.
    """

    headline: str
    task: str
    split: str
    metric: str
    system: str
    difference: Interval
    runs: list[float]
    best: bool


@dataclass(frozen=True)
class Card:
    """A report card.

    Attributes:
        name: of the configuration.
        systems: in the order of tables.
        results: every figure.
        spreads: "system|task|split|metric" -> deviation over runs.
        verdicts: stage 2 against each other system.
        runs: what each run was.
        kept: stage 2 - 0.99 x stage 1 in text-to-audio recall_at_10: whether semantics stay.
    """

    name: str
    systems: list[str]
    results: list[Result]
    spreads: dict[str, float]
    verdicts: list[Verdict]
    runs: list[dict[str, Any]]
    kept: Interval | None


def make_card(name: str, runs: Sequence[RunAnswers], config: EvaluationConfig) -> tuple[Card, Pooled]:
    """Pool runs and compare.

    Args:
        name: of the configuration.
        runs: their answers.
        config: how intervals are drawn.
    """
    pooled = pool(runs, config)
    systems = list(dict.fromkeys(result.system for result in pooled.results))
    order = [*_competitors(systems), *(each for each in OURS if each in systems)]
    spreads = {"|".join(key): each.deviation for key, each in pooled.spreads.items()}
    about = [{"data": run.data, **run.about} for run in runs]
    verdicts = _verdicts(pooled, order, config)
    kept = compared(pooled, STAGE2, STAGE1, RETRIEVAL, config, KEPT_SHARE)
    return Card(name, order, pooled.results, spreads, verdicts, about, kept), pooled


def _competitors(systems: Sequence[str]) -> list[str]:
    return [each for each in systems if each not in OURS]


def _verdicts(pooled: Pooled, systems: Sequence[str], config: EvaluationConfig) -> list[Verdict]:
    values = {(r.system, r.task, r.split, r.metric): r.value for r in pooled.results}
    found = []
    for headline, figure in HEADLINES:
        others = [each for each in systems if each != STAGE2 and (each, *figure) in values]
        rivals = [each for each in others if each not in OF_STAGE2]
        best = max(rivals, key=lambda each: values[each, *figure], default=None)
        for other in others if (STAGE2, *figure) in values else ():
            difference = compared(pooled, STAGE2, other, figure, config)
            if difference:
                runs = differences(pooled, STAGE2, other, figure)
                found.append(Verdict(headline, *figure, other, difference, runs, other == best))
    return found


def write_card(card: Card, pooled: Pooled, folder: Path) -> None:
    """Write the card as JSON, its figures as Parquet, and a record for each system and task."""
    values = asdict(card)
    del values["results"]
    (folder / CARD_FILE).write_text(json.dumps(values, indent=1))
    pq.write_table(to_table(card.results), folder / RESULTS_FILE)
    pq.write_table(pooled.deciles, folder / DECILES_FILE)
    write_records(card.results, card.spreads, folder / "records")


def read_card(folder: Path) -> Card:
    """The inverse of `write_card`."""
    values = json.loads((folder / CARD_FILE).read_text())
    values["results"] = from_table(pq.read_table(folder / RESULTS_FILE))
    values["verdicts"] = [
        Verdict(**{**each, "difference": Interval(**each["difference"])}) for each in values["verdicts"]
    ]
    values["kept"] = Interval(**values["kept"]) if values["kept"] else None
    return Card(**values)
