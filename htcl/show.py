"""What the command prints: status, results and songs as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from htcl.artifacts import ArtifactStore
from htcl.champion import read_champion
from htcl.config import PipelineConfig
from htcl.evaluation.results import RESULTS_FILE, SYSTEMS, Result, from_table, markdown_table
from htcl.plan import plan
from htcl.publish import read_decision
from htcl.report import report_path

if TYPE_CHECKING:  # it brings torch
    from htcl.search.query import Found

COLUMNS = [
    ("text_to_audio", "test", "recall_at_1", "text>audio\nrecall@1"),
    ("text_to_audio", "test", "recall_at_5", "\nrecall@5"),
    ("text_to_audio", "test", "recall_at_10", "\nrecall@10"),
    ("text_to_audio", "test", "median_rank", "\nmedian rank"),
    ("audio_to_text", "test", "recall_at_10", "audio>text\nrecall@10"),
    ("song_to_song", "cold", "ndcg_at_10", "cold songs\nndcg@10"),
    ("song_to_song", "cold", "recall_at_50", "\nrecall@50"),
    ("song_to_song", "warm", "ndcg_at_10", "warm songs\nndcg@10"),
    ("song_to_song", "warm", "recall_at_50", "\nrecall@50"),
]
"""(task, split, metric, heading) of the short result table; the report has them all."""


def show_status(config: PipelineConfig) -> None:
    """Every step with its key, whether it is there, and why it would run."""
    table = Table(title=f"{config.name}: {config.workspace}", title_justify="left")
    for heading in ("step", "key", "state", "why"):
        table.add_column(heading, overflow="fold")
    for step in plan(config).values():
        state = "[green]published[/]" if step.published else "[yellow]would run[/]"
        table.add_row(step.name, step.key, state, "" if step.published else escape(step.reason))
    console = _console()
    console.print(table)
    champion = read_champion(config.workspace)
    console.print(f"champion: {champion.stage2} since {champion.since}" if champion else "champion: none yet")


def show_outcome(config: PipelineConfig, keys: dict[str, str], seconds: float) -> None:
    """The result table of a finished run, whether its model is published, and where its report lies.

    Args:
        config: the configuration.
        keys: artifact keys of the run by step.
        seconds: how long it took.
    """
    console = _console()
    console.print(_result_table(config, _results(config, keys["evaluation"])))
    champion = read_champion(config.workspace)
    if champion is None or champion.stage2 != keys["stage2"]:
        decision = read_decision(config.workspace, keys["stage2"])
        reasons = ["the champion was fine-tuned from this model"]
        if decision and not decision["promote"]:
            reasons = decision["reasons"]
        console.print(f"[yellow]kept champion:[/] {escape(' '.join(reasons))}")
    console.print(f"finished in {seconds:.0f} s")
    console.print(f"report: {report_path(config.workspace, keys['report'])}", soft_wrap=True)


def show_results(config: PipelineConfig) -> None:
    """Every figure of the newest results of a configuration as a Markdown table.

    Raises:
        HTCLError: when the configuration was not run yet.
    """
    print(markdown_table(_results(config, plan(config)["evaluation"].key), SYSTEMS))


def _results(config: PipelineConfig, evaluation: str) -> list[Result]:
    return from_table(pq.read_table(ArtifactStore(config.workspace).fetch("evaluation", evaluation) / RESULTS_FILE))


def show_found(title: str, found: list[Found]) -> None:
    """Songs that answer a question."""
    table = Table(title=escape(title), title_justify="left")
    for heading in ("score", "track", "title", "artist", "genre", "tags"):
        table.add_column(heading, overflow="fold")
    for song in found:
        # A title such as "Intro [live]" is no markup.
        words = (song.track_id, song.title, song.artist, song.genre, ", ".join(song.tags))
        table.add_row(f"{song.score:.3f}", *map(escape, words))
    _console().print(table)


def _result_table(config: PipelineConfig, results: list[Result]) -> Table:
    values: dict[tuple[str, ...], Result] = {(r.system, r.task, r.split, r.metric): r for r in results}
    counts: dict[tuple[str, str], int] = {(row.task, row.split): row.n for row in results}
    shown = dict.fromkeys((task, split) for task, split, *_ in COLUMNS)
    caption = "queries: " + ", ".join(
        f"{task} {split} {counts[task, split]}" for task, split in shown if (task, split) in counts
    )
    table = Table(title=f"{config.name}: held-out songs and pairs", caption=caption, title_justify="left")
    table.add_column("system", no_wrap=True)
    for *_, heading in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for system in SYSTEMS:
        cells = []
        for task, split, metric, _ in COLUMNS:
            row = values.get((system, task, split, metric))
            half = f" ±{(row.high - row.low) / 2:.2f}" if row and metric in ("ndcg_at_10", "recall_at_10") else ""
            figure = f"{row.value:.0f}" if row and metric == "median_rank" else f"{row.value:.3f}{half}" if row else "-"
            cells.append(figure)
        table.add_row(system, *cells)
    return table


def _console() -> Console:
    """A console that keeps whole tables when its output goes to a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=160)
