"""What a snapshot says of itself: the funnel of its window, data quality by day, degrees, popularity, unknown songs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from htcl import storage
from htcl.artifacts import Draft
from htcl.config import PipelineConfig
from htcl.ingest.rejects import check_reject_share
from htcl.pairs import PAIRS_FOLDER, QUALITY_FOLDER
from htcl.pairs.quality import SOURCE, gini, quality_table, unusual_days
from htcl.pairs.window import Window
from htcl.parts import write_part
from htcl.schemas import LOG_QUALITY, REJECTS
from htcl.tables import GrowingTable, replace_rejects

UNKNOWN_LISTED = 10_000
"""Songs that the catalog lacks which are named in the rejects, the most heard first; the figures count all."""


def window_figures(config: PipelineConfig, days: Window, draft: Draft) -> dict[str, Any]:
    """Sums of the window's days: events, rejects and funnel; and where the newest day is unusual.

    The days' quality becomes part of the artifact.
    """
    rows = quality_table(config.workspace).read()
    inside = pc.and_(pc.greater_equal(rows["dt"], days.first), pc.less_equal(rows["dt"], days.newest))
    rows = rows.filter(inside)
    totals: dict[str, dict[str, int]] = {"events": {}, "rejects": {}, "funnel": {}}
    for row in rows.to_pylist():
        named = totals[row["measure"]]
        named[row["name"]] = named.get(row["name"], 0) + row["value"]
    undated = _undated(config.workspace)
    for reason, n in undated.items():
        totals["rejects"][reason] = totals["rejects"].get(reason, 0) + n
    draft.parts.append(write_part(draft.uri, rows.select(LOG_QUALITY.names), QUALITY_FOLDER))
    return {
        "events": sum(totals["events"].values()) + sum(undated.values()),
        "events_by_type": totals["events"],
        "rejects": totals["rejects"],
        **totals["funnel"],
        "unusual": unusual_days(rows, config.pairs.unusual_factor),
    }


def _undated(workspace: str) -> dict[str, int]:
    """Refused rows that have no day, by reason."""
    table = GrowingTable(workspace, "rejects", REJECTS, partition_by="source")
    rows = table.read(columns=["reason", "n_rows"], filter_=(pc.field("source") == SOURCE) & pc.field("dt").is_null())
    added = rows.group_by("reason").aggregate([("n_rows", "sum")]).to_pylist()
    return {row["reason"]: row["n_rows_sum"] for row in added}


def song_figures(config: PipelineConfig, sums: DataFrame, songs: DataFrame, draft: Draft) -> dict[str, Any]:
    """Pairs per split and source, positives per anchor, how unequal songs are, and songs that the catalog lacks.

    Raises:
        HTCLError: when too large a share of what was heard is of songs that have no audio in the shards.
    """
    items = sums.where("source = 'item' and period = 'all'").select(
        F.col("anchor_id").alias("track_id"), "n_baskets", "last_dt"
    )
    unknown = _unknown(config, items, songs)
    pairs = _pairs(draft)
    train = pairs.filter(pc.equal(pairs["split"], "train"))
    degree = train.group_by("anchor_id").aggregate([([], "count_all")])["count_all"]
    positives = train.group_by("positive_id").aggregate([([], "count_all")])["count_all"]
    heard = items.join(songs.select("track_id"), "track_id", "left_semi").select("n_baskets").toArrow()["n_baskets"]
    return {
        "pairs": len(pairs),
        "pairs_by_split": _counts(pairs["split"]),
        "pairs_by_source": _counts(pairs["source"]),
        "positives_per_anchor": _quantiles(np.asarray(degree, dtype=np.float64)),
        "popularity_gini": _rounded(gini(np.asarray(heard, dtype=np.float64))),
        "positive_gini": _rounded(gini(np.asarray(positives, dtype=np.float64))),
        "unknown_songs": unknown,
    }


def _pairs(draft: Draft) -> pa.Table:
    fs, root = storage.filesystem(draft.uri)
    tables = []
    for part in draft.parts:
        if part.path.startswith(f"{PAIRS_FOLDER}/"):
            with fs.open(storage.join(root, part.path), "rb") as handle:
                tables.append(pq.read_table(handle, columns=["anchor_id", "positive_id", "source", "split"]))
    return pa.concat_tables(tables)


def _unknown(config: PipelineConfig, items: DataFrame, songs: DataFrame) -> int:
    strange = items.join(songs.select("track_id"), "track_id", "left_anti")
    total = items.agg(F.sum("n_baskets")).collect()[0][0] or 0
    found = strange.agg(F.count("track_id"), F.sum("n_baskets")).collect()[0]
    listed = strange.orderBy(F.desc("n_baskets"), "track_id").limit(UNKNOWN_LISTED).collect()
    rows = [
        {
            "key": row["track_id"],
            "reason": "unknown_track",
            "detail": f"in {row['n_baskets']} baskets, newest {row['last_dt']}; no such song in the shards",
            "dt": row["last_dt"],
        }
        for row in listed
    ]
    replace_rejects(config.workspace, "pairs", rows)
    limit = config.interactions.max_reject_share
    check_reject_share({"unknown_track": int(found[1] or 0)}, int(total), limit, "interactions")
    return int(found[0])


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in column.value_counts().to_pylist()}


def _quantiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    return {name: float(np.quantile(values, q)) for name, q in (("min", 0), ("median", 0.5), ("p90", 0.9), ("max", 1))}


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
