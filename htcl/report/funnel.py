"""Counts through the pipeline out of the manifests, and a summary of the rejects table."""

from __future__ import annotations

from typing import Any

from htcl.report.data import FunnelRow, RejectRow
from htcl.tables import rejects_table


def funnel_rows(manifests: dict[str, dict[str, Any]]) -> list[FunnelRow]:
    """The funnel by unit: log events, pairs, songs.

    Args:
        manifests: by kind: catalog, pairs, shards, gate_set.
    """
    pairs, shards = manifests["pairs"]["figures"], manifests["shards"]["figures"]
    catalog = manifests["catalog"]["figures"]
    rows = [FunnelRow("events", "events in", pairs["events"])]
    rows += _rejected("events", pairs["rejects"])
    rows += [
        FunnelRow("events", "positive events", pairs["positive_events"]),
        FunnelRow("baskets", "baskets", pairs["baskets"], note=f"on {pairs['user_days']} days of listeners"),
        FunnelRow("pairs", "pairs counted", pairs["pairs_counted"], note="with enough users"),
        FunnelRow("pairs", "pairs kept", pairs["pairs"], note="songs of the shards, more often than by chance"),
    ]
    rows += [FunnelRow("pairs", f"pairs: {split}", n) for split, n in sorted(pairs["pairs_by_split"].items())]
    rows.append(FunnelRow("songs", "catalog rows in", catalog["rows"]))
    rows += _rejected("songs", catalog["rejects"])
    rows.append(FunnelRow("songs", "tracks", catalog["tracks"]))
    rows += _rejected("songs", shards["rejects"])
    rows += [
        FunnelRow("songs", f"warning: {name}", n, note="used all the same")
        for name, n in sorted(shards["warnings"].items())
    ]
    rows += [
        FunnelRow("songs", "in shards", shards["tracks"], note=f"{shards['shards']} shards"),
        FunnelRow("songs", "in the gate set", manifests["gate_set"]["figures"]["songs"], note="models are judged on"),
    ]
    return rows


def _rejected(group: str, reasons: dict[str, int]) -> list[FunnelRow]:
    return [FunnelRow(group, f"rejected: {reason}", n, rejected=True) for reason, n in sorted(reasons.items())]


def reject_rows(workspace: str) -> list[RejectRow]:
    """Rejects by source and reason, each with an example."""
    table = rejects_table(workspace)
    rows = table.read(columns=["source", "reason", "key", "detail", "n_rows"])
    kinds = rows.group_by(["source", "reason"], use_threads=False).aggregate(
        [("n_rows", "sum"), ("key", "first"), ("detail", "first")]
    )
    kinds = kinds.sort_by([("source", "ascending"), ("reason", "ascending")])
    return [
        RejectRow(row["source"], row["reason"], row["n_rows_sum"], row["key_first"] or "", row["detail_first"] or "")
        for row in kinds.to_pylist()
    ]
