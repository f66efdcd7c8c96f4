"""What a step shows in Prefect: tables and Markdown beside the flow run."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from htcl.artifacts import ArtifactStore
from htcl.pairs.quality import read_quality


def show_log_quality(workspace: str, key: str) -> None:
    """The data quality of a pairs artifact: tables by day and of the pairs, and what is unusual today."""
    store = ArtifactStore(workspace)
    figures = store.manifest("pairs", key)["figures"]
    by_day, whole = read_quality(store.fetch("pairs", key))
    create_table_artifact(by_day, key="log-quality", description=_summary(figures))
    create_table_artifact(whole, key="pair-quality", description="Positives per anchor, and how unequal songs are")
    unusual = figures["unusual"]
    lines = [f"- {sentence}" for sentence in unusual] or ["The newest day is as usual."]
    create_markdown_artifact("\n".join(lines), key="log-unusual", description=f"Log up to {figures['newest_day']}")


def _summary(figures: dict[str, Any]) -> str:
    return (
        f"{figures['events']} events, {sum(figures['rejects'].values())} refused, {figures['pairs']} pairs; "
        f"Gini of songs heard {figures['popularity_gini']}, of positives {figures['positive_gini']}"
    )
