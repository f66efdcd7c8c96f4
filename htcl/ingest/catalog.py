"""The catalog box: a platform's catalog mapped onto the contract, checked, split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.ingest.reading import column_names, input_files, read_rows
from htcl.ingest.rejects import check_reject_share
from htcl.logs import get_logger, log
from htcl.schemas import CATALOG, require_columns
from htcl.split import split_of
from htcl.tables import replace_rejects

CATALOG_FILE = "catalog.parquet"
CHECKED_CATALOG = CATALOG.append(pa.field("split", pa.string(), metadata={"doc": "train, validation or test"}))
"""The contract plus the side of the split."""

_BATCH = 20_000


def build_catalog(config: PipelineConfig, folder: Path) -> dict[str, Any]:
    """Write the checked catalog as Parquet, and refused rows to rejects.

    Args:
        config: reads `catalog` and `split`.
        folder: where the artifact is made.

    Returns:
        Figures for the manifest: rows in, tracks, rejects by reason, tracks per split.

    Raises:
        HTCLError: missing column, empty catalog, too many rejects.
    """
    section = config.catalog
    format_, files = input_files(section.path, section.format, "catalog")
    present = column_names(files, format_, wanted=section.columns.values())
    if not present:
        raise HTCLError(f"catalog.path: {section.path} holds no row that can be read as {format_}; nothing to embed")
    require_columns(section.columns, present, CATALOG, "catalog")
    rejects: list[dict[str, Any]] = []
    splits: Counter[str] = Counter()
    rows = _checked_rows(config, read_rows(files, format_), rejects)
    with pq.ParquetWriter(folder / CATALOG_FILE, CHECKED_CATALOG) as writer:
        for batch in _batches(rows):
            splits.update(row["split"] for row in batch)
            writer.write_table(pa.Table.from_pylist(batch, schema=CHECKED_CATALOG))
            log(get_logger("catalog"), "progress", tracks=sum(splits.values()), rejected=len(rejects))
    reasons = Counter(reject["reason"] for reject in rejects)
    replace_rejects(config.workspace, "catalog", rejects)
    tracks, total = sum(splits.values()), sum(splits.values()) + len(rejects)
    check_reject_share(reasons, total, section.max_reject_share, "catalog")
    if not tracks:
        raise HTCLError(f"catalog.path: {section.path} holds no valid row; see the rejects table")
    figures = {"rows": total, "tracks": tracks, "rejects": dict(reasons), "splits": dict(splits)}
    log(get_logger("catalog"), "catalog checked", rows=total, tracks=tracks, rejected=len(rejects))
    return figures


def read_catalog(folder: Path, columns: list[str] | None = None) -> pa.Table:
    """The checked catalog of an artifact folder."""
    return pq.read_table(folder / CATALOG_FILE, columns=columns)


def _checked_rows(
    config: PipelineConfig,
    rows: Iterator[tuple[str, dict[str, Any] | None]],
    rejects: list[dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for place, raw in rows:
        row = {name: _value(raw or {}, config.catalog.columns.get(name, name)) for name in CATALOG.names}
        reason = _refusal(raw, row, seen)
        if reason:
            rejects.append({"key": _text(row["track_id"]) or place, "reason": reason, "detail": f"at {place}"})
            continue
        checked = _typed(row)
        seen.add(checked["track_id"])
        checked["split"] = split_of(checked["split_group"], config.split, checked["artist"])
        yield checked


def _value(raw: dict[str, Any], column: str) -> Any:
    """What a row has in a column; NaN is nothing."""
    value = raw.get(column)
    return None if isinstance(value, float) and math.isnan(value) else value


def _refusal(raw: dict[str, Any] | None, row: dict[str, Any], seen: set[str]) -> str | None:
    if raw is None:
        return "malformed_row"
    for name in CATALOG.names:
        if not CATALOG.field(name).nullable and row[name] in (None, ""):
            return f"missing_{name}"
    return "duplicate_track_id" if _text(row["track_id"]) in seen else None


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    """Contract types from whatever the input format gave."""
    typed: dict[str, Any] = {name: _text(row[name]) for name in CATALOG.names}
    tags = row["tags"]
    if isinstance(tags, str):
        tags = [tag.strip() for tag in tags.replace(";", ",").replace("|", ",").split(",")]
    typed["tags"] = [str(tag) for tag in (tags if isinstance(tags, list) else [tags]) if tag]
    typed["duration_s"] = _number(row["duration_s"])
    typed["split_group"] = typed["split_group"] or typed["track_id"]
    return typed


def _text(value: Any) -> str | None:
    """Text; a whole number is spelled the same from a column of integers and from one of floats."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
