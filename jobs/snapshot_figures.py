"""What a snapshot says of itself: the funnel of its window, data quality by day, degrees, popularity, unknown songs."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from htcl.artifacts import Draft
from htcl.config import PipelineConfig
from htcl.ingest.rejects import check_reject_share
from htcl.pairs import QUALITY_FOLDER
from htcl.pairs.quality import SOURCE, gini, quality_table, unusual_days
from htcl.pairs.window import Window
from htcl.parts import write_part
from htcl.schemas import LOG_QUALITY, QUALITY
from htcl.tables import rejects_table, replace_rejects

Histogram = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Distinct values, ascending, and how often each occurs."""

UNKNOWN_LISTED = 10_000
"""Songs that the catalog lacks which are named in the rejects, the most heard first; the figures count all."""


def window_figures(config: PipelineConfig, days: Window) -> tuple[dict[str, Any], pa.Table]:
    """Sums of the window's days: events, rejects and funnel; and where the newest whole day of the log is unusual.

    Returns:
        (figures, rows of LOG_QUALITY of these days).
    """
    rows = quality_table(config.workspace).read()
    unusual = unusual_days(rows, config.pairs.unusual_factor, dt.datetime.now(dt.UTC).date())
    inside = pc.and_(pc.greater_equal(rows["dt"], days.first), pc.less_equal(rows["dt"], days.newest))
    rows = rows.filter(inside)
    totals: dict[str, dict[str, int]] = {"events": {}, "rejects": {}, "funnel": {}}
    for row in rows.to_pylist():
        named = totals[row["measure"]]
        named[row["name"]] = named.get(row["name"], 0) + row["value"]
    undated = _undated(config.workspace)
    for reason, n in undated.items():
        totals["rejects"][reason] = totals["rejects"].get(reason, 0) + n
    figures = {
        "events": sum(totals["events"].values()) + sum(undated.values()),
        "events_by_type": totals["events"],
        "rejects": totals["rejects"],
        **totals["funnel"],
        "unusual": unusual,
    }
    return figures, rows.select(LOG_QUALITY.names)


def write_quality(draft: Draft, days: pa.Table, degrees: Histogram) -> None:
    """Make data quality part of the artifact: the days, and of the whole window degrees and how unequal songs are.

    Args:
        draft: of the snapshot; its figures are read.
        days: rows of LOG_QUALITY.
        degrees: positives of an anchor, and anchors that have so many.
    """
    whole = [("positives_per_anchor", f"{degree:g}", float(n)) for degree, n in zip(*degrees, strict=True)]
    for name in ("popularity", "positive"):
        if draft.figures[f"{name}_gini"] is not None:
            whole.append(("gini", name, draft.figures[f"{name}_gini"]))
    rows = [{"dt": None, "measure": measure, "name": name, "value": value} for measure, name, value in whole]
    table = pa.concat_tables([days.cast(QUALITY), pa.Table.from_pylist(rows, QUALITY)])
    draft.parts.append(write_part(draft.uri, table, QUALITY_FOLDER))


def _undated(workspace: str) -> dict[str, int]:
    """Refused rows that have no day, by reason."""
    table = rejects_table(workspace)
    rows = table.read(columns=["reason", "n_rows"], filter_=(pc.field("source") == SOURCE) & pc.field("dt").is_null())
    added = rows.group_by("reason").aggregate([("n_rows", "sum")]).to_pylist()
    return {row["reason"]: row["n_rows_sum"] for row in added}


def pair_figures(pairs: DataFrame) -> tuple[dict[str, Any], Histogram]:
    """Pairs per split and source, and positives per anchor.

    Returns:
        (figures, positives of an anchor and anchors that have so many).
    """
    train = pairs.where("split = 'train'")
    by = pairs.groupBy("split", "source").count().collect()
    degrees = _histogram(_degrees(train, "anchor_id"))
    figures = {
        "pairs": sum(row["count"] for row in by),
        "pairs_by_split": _added(by, "split"),
        "pairs_by_source": _added(by, "source"),
        "positives_per_anchor": _quantiles(*degrees),
        "positive_gini": _rounded(gini(*_histogram(_degrees(train, "positive_id")))),
    }
    return figures, degrees


def song_figures(config: PipelineConfig, songs: DataFrame) -> dict[str, Any]:
    """How unequally songs are heard, and songs of the log that have no audio in the shards, which become rejects.

    Args:
        config: reads `interactions.max_reject_share`.
        songs: from `scoring.window_songs`.

    Raises:
        HTCLError: when too large a share of what was heard is of songs that have no audio in the shards.
    """
    heard = songs.where("baskets_all is not null").withColumn("known", F.col("split").isNotNull())
    counts = heard.groupBy("known", "baskets_all").count().collect()
    known = [(row["baskets_all"], row["count"]) for row in counts if row["known"]]
    strange = [(row["baskets_all"], row["count"]) for row in counts if not row["known"]]
    rows = _unknown(heard) if strange else []
    replace_rejects(config.workspace, "pairs", rows)
    refused, total = _product(strange), _product(known) + _product(strange)
    check_reject_share({"unknown_track": refused}, total, config.interactions.max_reject_share, "interactions")
    return {"popularity_gini": _rounded(gini(*_columns(known))), "unknown_songs": sum(n for _, n in strange)}


def _unknown(heard: DataFrame) -> list[dict[str, Any]]:
    """The most heard of the songs that the shards lack, as rejects."""
    listed = heard.where("not known").orderBy(F.desc("baskets_all"), "track_id").limit(UNKNOWN_LISTED).collect()
    return [
        {
            "key": row["track_id"],
            "reason": "unknown_track",
            "detail": f"in {row['baskets_all']} baskets, newest {row['last_dt']}; no such song in the shards",
            "dt": row["last_dt"],
        }
        for row in listed
    ]


def _product(histogram: list[tuple[int, int]]) -> int:
    return sum(value * n for value, n in histogram)


def _degrees(pairs: DataFrame, song: str) -> DataFrame:
    """(degree, songs that have it)."""
    return pairs.groupBy(song).agg(F.count("*").alias("degree")).groupBy("degree").count()


def _histogram(values: DataFrame) -> Histogram:
    return _columns([(row[0], row[1]) for row in values.collect()])


def _columns(histogram: list[tuple[int, int]]) -> Histogram:
    columns = np.array(sorted(histogram), dtype=np.float64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def _added(rows: list[Row], name: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for row in rows:
        totals[row[name]] = totals.get(row[name], 0) + row["count"]
    return totals


def _quantiles(values: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> dict[str, float]:
    """Quantiles of values that occur so often: the least value that this share of all does not exceed."""
    if not len(values):
        return {}
    reached = np.cumsum(counts) / counts.sum()
    shares = (("min", 0.0), ("median", 0.5), ("p90", 0.9), ("max", 1.0))
    return {name: float(values[np.argmax(reached >= share - 1e-12)]) for name, share in shares}


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
