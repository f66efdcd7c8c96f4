"""What a run shows in Prefect: tables, curves and Markdown beside the flow run, and how far its steps are."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.logging import get_run_logger

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.evaluation.results import RESULTS_FILE, SYSTEMS, from_table, markdown_table
from htcl.logs import LogLine
from htcl.pairs.quality import read_quality
from htcl.plan import Step
from htcl.publish import Judgement, Keys
from htcl.report import REPORT_FILE
from htcl.report.charts import curve_image
from htcl.report.curves import read_curve
from htcl.report.funnel import funnel_rows

UPDATE_SECONDS = 2.0
"""Least time between two updates of a progress bar: each is a call of the server."""


def shown(show: Callable[..., None]) -> Callable[..., None]:
    """A function that shows something, without harm to the work where that fails: the server may be away."""

    @functools.wraps(show)
    def try_to(*arguments: Any) -> None:
        try:
            show(*arguments)
        except Exception as error:
            get_run_logger().warning(f"could not show it in Prefect: {type(error).__name__}: {error}")

    return try_to


class ProgressArtifact:
    """A progress bar in Prefect that follows the progress lines of a step."""

    def __init__(self) -> None:
        self._id: UUID | None = None
        self._what, self._last = "", 0.0

    @shown
    def read(self, line: LogLine) -> None:
        """Take in the next log line of the step's processes."""
        found = _progress(line)
        if found is None:
            return
        what, percent, words = found
        if what != self._what:
            self._what, self._last, self._id = what, time.monotonic(), None
            self._id = create_progress_artifact(percent, description=words)  # type: ignore[assignment]
        elif self._id and (percent >= 100 or time.monotonic() - self._last >= UPDATE_SECONDS):
            self._last = time.monotonic()
            update_progress_artifact(self._id, percent, description=words)


def _progress(line: LogLine) -> tuple[str, float, str] | None:
    """(what, percent, words) of a progress line of a step, or of a line about a step of training."""
    fields = line.fields
    if line.message == "progress" and int(fields.get("total", 0)):
        what, done, total = fields["what"], int(fields["done"]), int(fields["total"])
    elif line.message == "step" and "global_step" in fields:
        what, done, total = line.step, int(fields["global_step"]), int(fields["total"])
    else:
        return None
    eta = f", {fields['eta_seconds']} s to go" if "eta_seconds" in fields else ""
    return what, 100 * done / total, f"{line.step}: {what} {done} of {total}{eta}"


@shown
def show_step(config: PipelineConfig, step: Step) -> None:
    """What a step that has just been made has to show."""
    store = ArtifactStore(config.workspace)
    show: Callable[[ArtifactStore, Step], None] | None = _SHOWN.get(step.name)
    if show:
        show(store, step)


@shown
def show_gate(judgement: Judgement) -> None:
    """What the gate said of a candidate, and the figures behind it."""
    rows: list[dict[str, Any]] = list(judgement.comparisons)
    if judgement.drift:
        rows.append({"guard": "drift", **judgement.drift})
    if rows:
        create_table_artifact(rows, key="gate-figures", description=f"{judgement.model} against {judgement.champion}")
    word = "may be published" if judgement.promote else "refused"
    lines = [f"# {judgement.model}: {word}", *(f"- {reason}" for reason in judgement.reasons)]
    create_markdown_artifact("\n".join(lines), key="gate", description=f"gate: {word}")


@shown
def show_published(keys: Keys, outcome: str) -> None:
    """What came of a candidate, and the set that readers see now."""
    lines = [outcome, "", "| artifact | key |", "|---|---|", *(f"| {kind} | `{key}` |" for kind, key in keys.items())]
    create_markdown_artifact("\n".join(lines), key="outcome", description=outcome)


def _show_log_quality(store: ArtifactStore, step: Step) -> None:
    """The data quality of a pairs artifact: tables by day and of the pairs, and what is unusual today."""
    figures = store.manifest("pairs", step.key)["figures"]
    by_day, whole = read_quality(store.fetch("pairs", step.key))
    summary = (
        f"{figures['events']} events, {sum(figures['rejects'].values())} refused, {figures['pairs']} pairs; "
        f"Gini of songs heard {figures['popularity_gini']}, of positives {figures['positive_gini']}"
    )
    create_table_artifact(by_day, key="log-quality", description=summary)
    create_table_artifact(whole, key="pair-quality", description="Positives per anchor, and how unequal songs are")
    unusual = figures["unusual"]
    lines = [f"- {sentence}" for sentence in unusual] or ["The newest day is as usual."]
    create_markdown_artifact("\n".join(lines), key="log-unusual", description=f"Log up to {figures['newest_day']}")


def _show_curve(store: ArtifactStore, step: Step) -> None:
    """The losses of a stage of training."""
    curve = read_curve(store.fetch(step.name, step.key), step.name)
    if not curve.steps:
        words = f"{step.name}: no step was trained (epochs: 0)"
        create_markdown_artifact(words, key=f"{step.name}-losses", description=words)
        return
    last = ", ".join(f"{name} {values[-1]:.3f}" for name, values in curve.series.items())
    image = f"![losses of {step.name}]({curve_image(curve)})"
    words = f"{step.name}: {last} after {curve.steps[-1]} steps"
    create_markdown_artifact(f"{image}\n\n{words}", key=f"{step.name}-losses", description=words)


def _show_results(store: ArtifactStore, step: Step) -> None:
    """Every figure with its interval, and the funnel that led to it."""
    manifest = store.manifest("evaluation", step.key)
    gate_set = store.manifest("gate_set", manifest["inputs"]["gate_set"])
    kinds = ("catalog", "pairs", "shards")
    manifests = {"gate_set": gate_set, **{kind: store.manifest(kind, gate_set["inputs"][kind]) for kind in kinds}}
    rows = [
        {"unit": row.group, "what": row.label, "count": row.count, "note": row.note} for row in funnel_rows(manifests)
    ]
    create_table_artifact(rows, key="funnel", description="From what came in to what is judged")
    results = from_table(pq.read_table(store.fetch("evaluation", step.key) / RESULTS_FILE))
    about = f"Held-out songs and pairs, judged on {manifest['figures']['songs']} songs"
    create_markdown_artifact(markdown_table(results, SYSTEMS), key="results", description=about)


def _show_report(store: ArtifactStore, step: Step) -> None:
    link = f"{store.content('report', step.key)}/{REPORT_FILE}"
    create_link_artifact(link if "://" in link else f"file://{link}", key="report", description=link)


_SHOWN = {
    "pairs": _show_log_quality,
    "stage1": _show_curve,
    "stage2": _show_curve,
    "evaluation": _show_results,
    "report": _show_report,
}
