"""The report card as a section of the report: tables of headlines, verdicts, the bridge, recall by popularity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from htcl.evaluation.results import Result
from htcl.report.bridge import Bridge, Kind, bridge
from htcl.report.data import Curve, ResultRow
from htcl.report_card.answers import DECILES_FILE
from htcl.report_card.card import HEADLINES, OF_STAGE2, OURS, PREFERENCE, SEMANTIC, Card, read_card
from htcl.report_card.show import verdict_lines
from htcl.report_card.variants import STAGE1, STAGE2, VARIANTS

DECILE_TASKS = (("song_to_song", "cold"), ("user_to_song", "warm"))
SHOWN_COMPETITORS = 3
"""Of recall by popularity: the best ones, beside both stages."""
_GROUPS = (
    ("Who will like it", ("song_to_song", "user_to_song")),
    ("What it is", ("text_to_audio", "audio_to_text", "probe_linear_mean", "probe_mlp_mean", "zero_shot_mean")),
)


@dataclass(frozen=True)
class CardSection:
    """What the page says of a report card.

    Attributes:
        runs: how many, over how many worlds.
        tables: rows of a table for each side, a metric being a headline.
        verdicts: where stage 2 wins and loses, and whether it keeps stage 1's retrieval, in sentences.
        bridge: the picture of both sides.
        deciles: recall by popularity, a chart for each task.
        changes: overlap of neighbours and CKA from stage 1 to stage 2, means over runs.
        variants: what each trained variant is.
    """

    runs: str
    tables: list[ResultRow]
    verdicts: list[str]
    bridge: Bridge | None
    deciles: list[Curve]
    changes: dict[str, float]
    variants: list[tuple[str, str]]


def card_section(folder: Path) -> CardSection:
    """Read a published card."""
    card = read_card(folder)
    worlds = len({run["data"] for run in card.runs})
    changes = [run["stage1_to_stage2"] for run in card.runs]
    return CardSection(
        runs=f"{len(card.runs)} {'run' if len(card.runs) == 1 else 'runs'} over {worlds} "
        f"{'world' if worlds == 1 else 'worlds'}",
        tables=_tables(card),
        verdicts=verdict_lines(card),
        bridge=card_bridge(card.results, card.systems),
        deciles=_deciles(pq.read_table(folder / DECILES_FILE), card),
        changes={name: sum(each[name] for each in changes) / len(changes) for name in ("neighbour_overlap", "cka")},
        variants=[(each.name, each.about) for each in VARIANTS if each.name in card.systems],
    )


def kind_of(system: str) -> Kind:
    """How a system is drawn: a model of ours, one made from stage 2, or a competitor."""
    return "part" if system in OF_STAGE2 else "ours" if system in OURS else "competitor"


def card_bridge(results: Sequence[Result], systems: Sequence[str]) -> Bridge | None:
    """Linear probes against preference for cold songs."""
    xs, ys = (
        {r.system: r for r in results if (r.task, r.split, r.metric) == figure} for figure in (SEMANTIC, PREFERENCE)
    )
    kinds = {system: kind_of(system) for system in systems}
    return bridge(xs, ys, kinds, "what songs are: linear probes, mean score", "who likes new ones: cold songs, ndcg@10")


def _tables(card: Card) -> list[ResultRow]:
    found = {(r.system, r.task, r.split, r.metric): r for r in card.results}
    rows = []
    for group, tasks in _GROUPS:
        for headline, (task, split, metric) in HEADLINES:
            figures = [found[key] for system in card.systems if (key := (system, task, split, metric)) in found]
            if task not in tasks or not figures:
                continue
            name = f"{headline} (n = {figures[0].n:,})"
            rows += [ResultRow(r.system, group, "", name, r.value, r.low, r.high, 0) for r in figures]
    return rows


def _deciles(table: pa.Table, card: Card) -> list[Curve]:
    charts = []
    for task, split in DECILE_TASKS:
        rows = [row for row in table.to_pylist() if (row["task"], row["split"]) == (task, split)]
        if not rows:
            continue
        values = {(row["system"], row["decile"]): row["recall_at_10"] for row in rows}
        steps = sorted({row["decile"] for row in rows})
        figure = (task, split, "recall_at_10")
        reached = {r.system: r.value for r in card.results if (r.task, r.split, r.metric) == figure}
        rivals = [each for each in reached if kind_of(each) == "competitor"]
        order = sorted(rivals, key=lambda each: -reached[each])
        shown = [STAGE2, STAGE1, *order[:SHOWN_COMPETITORS]]
        series = {each: [values.get((each, step), float("nan")) for step in steps] for each in shown}
        charts.append(Curve(f"{'cold' if split == 'cold' else 'known'} songs, {task.replace('_', ' ')}", steps, series))
    return charts
