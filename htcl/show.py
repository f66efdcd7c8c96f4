"""What the command prints: status, results and songs as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from htcl.artifacts import ArtifactStore
from htcl.champion import past_champions, read_champion
from htcl.config import PipelineConfig
from htcl.evaluation.results import RESULTS_FILE, SYSTEMS, Result, from_table, markdown_table
from htcl.lease import lease_holder
from htcl.plan import plan
from htcl.publish import UNCHANGED, judgements
from htcl.report import report_path

if TYPE_CHECKING:  # they bring torch
    from htcl.collect import Garbage
    from htcl.datasets.dataset import DataSet
    from htcl.doctor.findings import Finding
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
    champion, holder = read_champion(config.workspace), lease_holder(config.workspace)
    console.print(f"champion: {champion.stage2} since {champion.since}" if champion else "champion: none yet")
    if holder:
        console.print(f"at work: {holder.what} on {holder.host.split()[0]}, process {holder.pid}, since {holder.since}")


def show_outcome(config: PipelineConfig, keys: dict[str, str], outcome: str, seconds: float) -> None:
    """The result table of a finished run, what came of its model, and where its report lies.

    Args:
        config: the configuration.
        keys: artifact keys of the run by step.
        outcome: in a sentence.
        seconds: how long it took.
    """
    console = _console()
    console.print(_result_table(config, _results(config, keys["evaluation"])))
    console.print(escape(outcome), style="green" if outcome.startswith(("published", UNCHANGED)) else "yellow")
    console.print(f"finished in {seconds:.0f} s")
    console.print(f"report: {report_path(config.workspace, keys['report'])}", soft_wrap=True)


def show_models(config: PipelineConfig) -> None:
    """Every stage-2 model, oldest first: where it comes from, what the gate said, which sets it was in."""
    table = Table(title=f"{config.name}: {config.workspace}", title_justify="left")
    for heading in ("model", "trained", "from", "run", "gate", "published"):
        table.add_column(heading, overflow="fold")
    said = {judgement.model: judgement for judgement in judgements(config.workspace)}
    past = past_champions(config.workspace)
    for manifest in ArtifactStore(config.workspace).manifests("stage2"):
        key = str(manifest["key"])
        judgement = said.get(key)
        word = "" if judgement is None else "passed" if judgement.promote else "refused"
        sets = [f"{entry.number} since {entry.since}" for entry in past if entry.stage2 == key]
        if past and key == past[0].stage2:
            sets[0] += " (champion)"
        elif past and key in past[0].withdrawn:
            sets.insert(0, "withdrawn")
        parent = manifest["inputs"].get("champion", "stage 1")
        run = judgement.run if judgement else ""
        table.add_row(key, str(manifest["created"])[:19], parent, escape(run), word, "; ".join(sets))
    _console().print(table)


def show_garbage(found: list[Garbage], dry_run: bool) -> None:
    """What garbage collection deleted, or would, by kind."""
    table = Table(title="would delete" if dry_run else "deleted", title_justify="left")
    for heading in ("what", "items", "MB", "such as"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("items", "MB") else "left")
    for kind in dict.fromkeys(item.kind for item in found):
        items = [item for item in found if item.kind == kind]
        table.add_row(kind, str(len(items)), f"{sum(item.size for item in items) / 1e6:.1f}", escape(items[0].name))
    console = _console()
    console.print(table if found else "nothing to delete")


def show_findings(findings: list[Finding]) -> None:
    """What the doctor found, and what to do about it."""
    colors = {"ok": "green", "warning": "yellow", "problem": "red"}
    console = _console()
    for finding in findings:
        mark = f"[{colors[finding.level]}]{finding.level:8}[/]"
        console.print(f"{mark} {escape(finding.what)}: {escape(finding.found)}", soft_wrap=True)
        if finding.way_out:
            console.print(f"         → {escape(finding.way_out)}", soft_wrap=True)
    worst = [sum(finding.level == level for finding in findings) for level in ("problem", "warning")]
    console.print(f"{len(findings)} checks, {worst[0]} problems, {worst[1]} warnings")


def show_datasets(found: list[DataSet]) -> None:
    """Public data sets that can be prepared."""
    table = Table(title="data sets", title_justify="left", caption="docs/datasets.md says more")
    for heading in ("name", "title", "brings", "subsets", "licence"):
        table.add_column(heading, overflow="fold")
    for dataset in found:
        tracks = "catalog" if "audio" in dataset.brings else "tracks"  # the name of the file that is written
        brings = ", ".join(tracks if each == "catalog" else each for each in dataset.brings)
        subsets = ", ".join(dataset.subsets)
        table.add_row(*map(escape, (dataset.name, dataset.title, brings, subsets, dataset.licence)))
    _console().print(table)


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
