"""Parquet files that are written piece by piece: tables by name, and a log in parts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from htcl.schemas import INTERACTIONS

LOG_FOLDER = "interactions"

GROUP_ROWS, PART_GROUPS = 1 << 20, 16
"""Events of a row group, which are held in memory, and row groups of a part of the log."""


class Tables:
    """The Parquet files of a folder, each open from its first rows on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, pq.ParquetWriter] = {}

    def write(self, name: str, rows: pa.Table) -> None:
        """Add rows to the file of this name, which is made where there is none."""
        if name not in self._files:
            path = self._folder / name
            path.parent.mkdir(exist_ok=True)
            self._files[name] = pq.ParquetWriter(path, rows.schema)
        self._files[name].write_table(rows)

    def close(self) -> None:
        """End all files that are open; the same name would begin anew."""
        while self._files:
            self._files.popitem()[1].close()


class LogParts:
    """The log contract as interactions/part-*.parquet."""

    def __init__(self, folder: Path) -> None:
        self._tables = Tables(folder)
        self._held: list[pa.Table] = []
        self._groups = 0

    def add(self, events: pa.Table) -> bool:
        """Add events with some of the contract's columns; the others are null.

        Returns:
            Whether a row group was written.
        """
        n = len(events)
        present = set(events.column_names)
        columns = [events[f.name] if f.name in present else pa.nulls(n, f.type) for f in INTERACTIONS]
        self._held.append(pa.table(columns, names=INTERACTIONS.names).cast(INTERACTIONS))
        full = sum(map(len, self._held)) >= GROUP_ROWS
        if full:
            self._write()
        return full

    def close(self) -> None:
        """Write what is held and end the last part."""
        if any(map(len, self._held)):
            self._write()
        self._tables.close()

    def _write(self) -> None:
        part = f"{LOG_FOLDER}/part-{self._groups // PART_GROUPS:05}.parquet"
        self._tables.write(part, pa.concat_tables(self._held).combine_chunks())
        self._held = []
        self._groups += 1
        if self._groups % PART_GROUPS == 0:
            self._tables.close()
