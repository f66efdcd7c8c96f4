"""Writes and counts what an adapter finds: catalog or tracks, the log, the rejects; in bounded memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from htcl.datasets.dataset import DataSet, Events, Found, LeftOut, Missing, Rejected, Track
from htcl.datasets.mapping import clean
from htcl.datasets.parquet import LogParts, Tables
from htcl.logs import get_logger, log
from htcl.schemas import CATALOG

CATALOG_FILE, TRACKS_FILE, REJECTS_FILE = "catalog.parquet", "tracks.parquet", "rejects.parquet"
"""Of a prepared folder; tracks in place of the catalog where the data set has no audio."""

REJECTS = pa.schema([(name, pa.string()) for name in ("source", "key", "reason", "detail")])
_BATCH = 20_000


class Writer:
    """Takes what is found, in any order; the files are complete when the block ends.

    Attributes:
        tracks: rows of the catalog.
        events: rows of the log.
        rejected: reason -> rows.
        left_out: reason -> rows.
        missing: what this folder lacks.
        untitled: tracks that have their id for a title.
        undecodable: tracks with text that was no UTF-8.
        examples: reason -> the first row that was rejected for it.
    """

    def __init__(self, folder: Path, dataset: DataSet) -> None:
        self.tracks = self.events = self.untitled = self.undecodable = 0
        self.rejected: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.missing: list[str] = []
        self.examples: dict[str, Rejected] = {}
        self._dataset = dataset
        self._seen: set[str] = set()
        self._track_rows: list[dict[str, Any]] = []
        self._reject_rows: list[dict[str, Any]] = []
        self._tables, self._log = Tables(folder), LogParts(folder)

    def __enter__(self) -> Writer:
        self._write_tracks()
        self._write_rejects()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:  # else the folder is thrown away, and a second error would hide the first
            self._write_tracks()
            self._write_rejects()
            self._log.close()
            self._tables.close()

    def take(self, found: Found) -> None:
        """Write, or count, one thing that was found."""
        match found:
            case Track():
                self._take_track(found.values)
            case Events():
                self._take_events(found.table)
            case Rejected():
                self._reject(found)
            case LeftOut():
                self.left_out[found.reason] += found.rows
            case Missing():
                self.missing.append(found.what)

    def _take_track(self, values: dict[str, Any]) -> None:
        row = {name: clean(value) for name, value in values.items()}
        key = row.get("track_id")
        if key is None or key in self._seen:
            reason = "missing_track_id" if key is None else "duplicate_track_id"
            self._reject(Rejected("catalog", key or "", reason, f"title {row.get('title')!r}"))
            return
        if self._dataset.check_repeats:
            self._seen.add(key)
        self.tracks += 1
        self.untitled += row.get("title") is None
        self.undecodable += any("\ufffd" in value for value in row.values() if isinstance(value, str))
        self._track_rows.append(row | {"title": row.get("title") or key})
        if len(self._track_rows) == _BATCH:
            self._write_tracks()

    def _take_events(self, events: pa.Table) -> None:
        self.events += len(events)
        if self._log.add(events):
            rejected = self.rejected.total()
            log(get_logger("datasets"), "progress", tracks=self.tracks, events=self.events, rejected=rejected)

    def _reject(self, reject: Rejected) -> None:
        self.examples.setdefault(reject.reason, reject)
        self.rejected[reject.reason] += 1
        self._reject_rows.append({name: clean(value) for name, value in vars(reject).items()})
        if len(self._reject_rows) == _BATCH:
            self._write_rejects()

    def _write_tracks(self) -> None:
        audio = "audio" in self._dataset.brings
        fields = [field for field in CATALOG if audio or field.name != "audio_path"]
        schema = pa.schema([*fields, *(pa.field(name, pa.string()) for name in self._dataset.extra_columns)])
        if "catalog" in self._dataset.brings:
            self._tables.write(CATALOG_FILE if audio else TRACKS_FILE, pa.Table.from_pylist(self._track_rows, schema))
        self._track_rows = []

    def _write_rejects(self) -> None:
        self._tables.write(REJECTS_FILE, pa.Table.from_pylist(self._reject_rows, REJECTS))
        self._reject_rows = []
