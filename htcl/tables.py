"""Growing tables (Delta, through deltalake): commits of Parquet files that others wrote."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import deltalake
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from htcl import storage
from htcl.errors import HTCLError

COMMIT_ATTEMPTS = 5

COMMIT_PREFIX = "commit="
"""Files of one commit lie in a folder of their own, spelled so that Spark reads it as a partition."""


class GrowingTable:
    """One Delta table of the workspace."""

    def __init__(self, workspace: str, name: str, schema: pa.Schema, partition_by: str | None = None) -> None:
        self.uri = storage.join(workspace, "tables", name)
        self.name, self.schema, self.partition_by = name, schema, partition_by

    def exists(self) -> bool:
        """Whether anything was committed yet."""
        return deltalake.DeltaTable.is_deltatable(self.uri)

    def version(self) -> int:
        """The newest version; -1 before the first commit."""
        return deltalake.DeltaTable(self.uri).version() if self.exists() else -1

    def new_folder(self) -> str:
        """A fresh folder inside the table; what is written there is invisible until `commit`."""
        return storage.join(self.uri, f"{COMMIT_PREFIX}{uuid.uuid4().hex}")

    def file_uris(self, version: int | None = None) -> list[str]:
        """Data files of a version."""
        uris = deltalake.DeltaTable(self.uri, version=version).file_uris()
        return [uri.removeprefix("file://") for uri in uris]

    def read(
        self,
        version: int | None = None,
        columns: list[str] | None = None,
        filter_: ds.Expression | None = None,
    ) -> pa.Table:
        """Read rows into memory; an empty table before the first commit."""
        if not self.exists():
            empty = self.schema.empty_table()
            return empty.select(columns) if columns else empty
        dataset = deltalake.DeltaTable(self.uri, version=version).to_pyarrow_dataset()
        return dataset.to_table(columns=columns, filter=filter_)

    def commit(self, folder: str, replace: Iterable[str] | bool, base: int | None = None) -> int:
        """Make the Parquet files below `folder` part of the table, in one transaction.

        Args:
            folder: from `new_folder`; files, below `column=value` folders if the table is partitioned.
            replace: True replaces all rows, False appends, values replace those partitions.
            base: the version that the rows were worked out from, where that matters.

        A commit that another one overtook is tried again on top of it, unless it has a base.

        Returns:
            The new version.

        Raises:
            HTCLError: when a file lies in a partition that is not replaced, others keep overtaking, or the table
                is not at its base any more.
        """
        added = self._add_actions(folder)
        if not isinstance(replace, bool):
            replace = sorted(replace)
            strange = {str(value) for a in added for value in a.partition_values.values()} - set(replace)
            if strange:
                raise HTCLError(
                    f"table {self.name}: {folder} holds rows of {self.partition_by} {', '.join(sorted(strange))}, "
                    "which this commit does not replace"
                )
        for attempt in range(COMMIT_ATTEMPTS):
            try:
                return self._commit_once(added, replace, base)
            except DeltaError as error:
                # Two first commits at once: the slower one finds the table there.
                if not isinstance(error, CommitFailedError) and "already exists" not in str(error):
                    raise
                time.sleep(0.1 * 2**attempt)
        raise HTCLError(f"table {self.name}: others were faster {COMMIT_ATTEMPTS} times; run the step again")

    def _commit_once(self, actions: list[AddAction], replace: list[str] | bool, base: int | None) -> int:
        if base is not None and self.version() != base:
            raise HTCLError(
                f"table {self.name}: another run has changed it meanwhile (version {base} -> {self.version()}); "
                "run the step again when that run has ended"
            )
        schema = deltalake.Schema.from_arrow(self.schema)
        by = [self.partition_by] if self.partition_by else []
        if not self.exists():
            create_table_with_add_actions(self.uri, schema, actions, mode="error", partition_by=by)
            return self.version()
        filters = None
        if not isinstance(replace, bool):
            filters = self._filters(replace)
        table = deltalake.DeltaTable(self.uri)
        mode = "append" if replace is False else "overwrite"
        table.create_write_transaction([*actions], mode, schema, by, filters)
        return self.version()

    def replace_rows(self, rows: pa.Table, replace: Iterable[str] | bool = True, base: int | None = None) -> int:
        """Write a small table from memory and commit it; see `commit`."""
        folder = self.new_folder()
        fs, path = storage.filesystem(folder)
        partitioning = None
        if self.partition_by:
            partitioning = ds.partitioning(pa.schema([self.schema.field(self.partition_by)]), flavor="hive")
        if rows.num_rows:
            ds.write_dataset(rows.cast(self.schema), path, filesystem=fs, format="parquet", partitioning=partitioning)
        return self.commit(folder, replace, base)

    def _add_actions(self, folder: str) -> list[AddAction]:
        fs, root = storage.filesystem(self.uri)
        base = storage.filesystem(folder)[1]
        actions = []
        for path, info in sorted(fs.find(base, detail=True).items()):
            if path.endswith(".parquet"):
                with fs.open(path, "rb") as handle:
                    rows = pq.read_metadata(handle).num_rows
                relative = path[len(root.rstrip("/")) + 1 :]
                actions.append(
                    AddAction(
                        path=relative,
                        size=int(info["size"]),
                        partition_values=self._partition_values(relative),
                        modification_time=int(float(info.get("mtime") or 0) * 1000),
                        data_change=True,
                        stats=json.dumps({"numRecords": rows}),
                    )
                )
        return actions

    def _filters(self, partitions: Iterable[str]) -> list[tuple[str, str, Any]]:
        if not self.partition_by:
            raise HTCLError(f"table {self.name} has no partitions; {', '.join(partitions)} cannot be told apart")
        return [(self.partition_by, "in", list(partitions))]

    def _partition_values(self, relative: str) -> dict[str, str | None]:
        if not self.partition_by:
            return {}
        prefix = f"{self.partition_by}="
        values = [part.removeprefix(prefix) for part in relative.split("/") if part.startswith(prefix)]
        if not values:
            raise HTCLError(f"table {self.name}: {relative} does not lie below a folder {prefix}VALUE")
        return {self.partition_by: unquote(values[0])}


def replace_rejects(workspace: str, source: str, rows: list[dict[str, Any]]) -> int:
    """Replace the rejects of one source by `rows` (key, reason, detail, dt)."""
    from htcl.schemas import REJECTS

    table = GrowingTable(workspace, "rejects", REJECTS, partition_by="source")
    columns = {name: [row.get(name) for row in rows] for name in REJECTS.names}
    columns["source"] = [source] * len(rows)
    return table.replace_rows(pa.table(columns, schema=REJECTS), replace=[source])
