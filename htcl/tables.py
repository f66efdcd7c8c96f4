"""Growing tables (Delta, through deltalake): commits of Parquet files that tasks wrote."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import unquote

import deltalake
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from htcl import storage
from htcl.errors import HTCLError, OvertakenError
from htcl.parts import Part, write_part

COMMIT_ATTEMPTS = 5

Properties = dict[str, Any]

# Artifacts name old versions of tables, and the log says what a version holds. Delta would drop it after a month.
_KEEPS_LOG = {"delta.enableExpiredLogCleanup": "false"}
_HOOKS = deltalake.PostCommitHookProperties(cleanup_expired_logs=False)


class GrowingTable:
    """One Delta table of the workspace."""

    def __init__(self, workspace: str, name: str, schema: pa.Schema, partition_by: str | None = None) -> None:
        self.uri = storage.join(workspace, "tables", name)
        self._url, self._options = storage.delta_url(self.uri), storage.delta_options(self.uri)
        self.name, self.schema, self.partition_by = name, schema, partition_by

    def exists(self) -> bool:
        """Whether anything was committed yet."""
        return deltalake.DeltaTable.is_deltatable(self._url, self._options)

    def version(self) -> int:
        """The newest version; -1 before the first commit."""
        return self._open().version() if self.exists() else -1

    def properties(self, version: int | None = None) -> Properties:
        """What the commit of a version (default: the newest) said of itself; empty before the first commit.

        Raises:
            HTCLError: when there is no such version.
        """
        if version is None and not self.exists():
            return {}
        # Out of the log itself: `history` of a table opened at an older version tells of the newest ones.
        entry = f"{self._open(version).version():020}.json"
        lines = storage.read_bytes(storage.join(self.uri, "_delta_log", entry)).splitlines()
        said = [action["commitInfo"].get("htcl", "{}") for action in map(json.loads, lines) if "commitInfo" in action]
        return dict(json.loads(said[0])) if said else {}

    def parts(self, version: int | None = None) -> list[Part]:
        """Data files of a version (default: the newest); none before the first commit.

        Raises:
            HTCLError: when there is no such version.
        """
        if version is None and not self.exists():
            return []
        actions = pa.table(self._open(version).get_add_actions(flatten=True))
        names = actions.column_names
        values = actions[f"partition.{self.partition_by}"] if self.partition_by else pa.nulls(len(actions))
        rows = actions["num_records"] if "num_records" in names else pa.nulls(len(actions), pa.int64())
        columns = zip(actions["path"], actions["size_bytes"], rows, values, strict=True)
        return [Part(unquote(p.as_py()), s.as_py(), n.as_py() or 0, v.as_py()) for p, s, n, v in columns]

    def check_there(self, version: int) -> None:
        """Check that a version can be read.

        Raises:
            HTCLError: when there is no such version, or its files were vacuumed away.
        """
        now = {part.path for part in self.parts()}
        # A vacuum leaves the newest version alone and takes all that only older ones need.
        older = next((part.path for part in self.parts(version) if part.path not in now), None)
        if older is not None and not storage.exists(storage.join(self.uri, older)):
            raise HTCLError(f"table {self.name}: the files of version {version} were vacuumed away; take a newer one")

    def read(
        self,
        version: int | None = None,
        columns: list[str] | None = None,
        filter_: ds.Expression | None = None,
    ) -> pa.Table:
        """Read rows into memory; an empty table before the first commit."""
        if version is None and not self.exists():
            empty = self.schema.empty_table()
            return empty.select(columns) if columns else empty
        return self._open(version).to_pyarrow_dataset().to_table(columns=columns, filter=filter_)

    def write(self, rows: pa.Table, value: str | None = None, name: str = "part") -> Part:
        """Write rows of one partition as a file of the table; it is invisible until `commit`."""
        return write_part(self.uri, rows, partition_by=self.partition_by, value=value, name=name)

    def commit(
        self,
        parts: Sequence[Part],
        replace: Iterable[str] | bool,
        base: int | None = None,
        properties: Properties | Callable[[Properties], Properties] | None = None,
        append: Iterable[str] = (),
    ) -> int:
        """Make files part of the table, in one transaction.

        Args:
            parts: from `write`, in this process or in tasks.
            replace: True replaces all rows, False appends, values replace those partitions.
            base: the version that the rows were worked out from, where that matters: the partitions that are named
                must be as they were then.
            properties: what the commit says of itself (`properties`), or a function that makes it of what the newest
                one says.
            append: with values in `replace`, or none: partitions that only gain rows.

        A commit that another one overtook is tried again on top of it, unless that one changed what is named.

        Returns:
            The new version.

        Raises:
            OvertakenError: when what is named is not as it was at the base any more.
            HTCLError: when a file lies in a partition that is not named, or others keep overtaking.
        """
        append = set(append)
        if not isinstance(replace, bool):
            replace = sorted(replace)
            strange = {str(part.partition) for part in parts} - {*replace, *append}
            if strange:
                raise HTCLError(
                    f"table {self.name}: there are rows of {self.partition_by} {', '.join(sorted(strange))}, "
                    "which this commit does not replace"
                )
        actions = [self._action(part) for part in parts]
        for attempt in range(COMMIT_ATTEMPTS):
            try:
                said = properties(self.properties()) if callable(properties) else properties or {}
                return self._commit_once(actions, replace, append, base, said)
            except DeltaError as error:
                # Two first commits at once: the slower one finds the table there.
                if not isinstance(error, CommitFailedError) and "already exists" not in str(error):
                    raise
                time.sleep(0.1 * 2**attempt)
        raise HTCLError(f"table {self.name}: others were faster {COMMIT_ATTEMPTS} times; run the step again")

    def replace_rows(self, rows: pa.Table, replace: Iterable[str] | bool = True, base: int | None = None) -> int:
        """Write a small table from memory and commit it; see `commit`."""
        rows = rows.cast(self.schema)
        if not rows.num_rows:
            return self.commit([], replace, base)
        if not self.partition_by:
            return self.commit([self.write(rows)], replace, base)
        values = pc.unique(rows[self.partition_by]).to_pylist()
        parts = [self.write(rows.filter(pc.field(self.partition_by) == value), value) for value in values]
        return self.commit(parts, replace, base)

    def update_rows(self, change: Callable[[pa.Table], pa.Table], replace: Iterable[str] | bool = True) -> int:
        """Read a small table, or some partitions of it, and replace what was read; again where another run was faster.

        Args:
            change: rows as they are -> rows as they shall be.
            replace: as in `commit`.
        """
        values = None if isinstance(replace, bool) else list(replace)
        wanted = None if values is None else pc.field(self.partition_by).isin(values)
        for _ in range(COMMIT_ATTEMPTS):
            base = self.version()
            try:
                return self.replace_rows(change(self.read(None if base < 0 else base, filter_=wanted)), replace, base)
            except OvertakenError:
                continue
        raise HTCLError(f"table {self.name}: others were faster {COMMIT_ATTEMPTS} times; run the step again")

    def vacuum(self) -> int:
        """Delete every file that the newest version does not need; older versions are gone then.

        No other run may be writing meanwhile: its files are not committed yet and would go too.

        Returns:
            Files deleted.
        """
        if not self.exists():
            return 0
        said = _said(self.properties())
        table = self._open()
        files = table.vacuum(
            0, False, enforce_retention_duration=False, full=True, commit_properties=said,
            post_commithook_properties=_HOOKS,
        )  # fmt: skip
        return len(files)

    def collect(self, versions: Iterable[int], grace_hours: float, dry_run: bool) -> dict[str, int]:
        """Delete the files that neither some versions nor the newest one need, unless they are young.

        Args:
            versions: that can still be read afterwards, of those that can be read now.
            grace_hours: age at which a file is old; a begun hour counts as a whole one.
            dry_run: only say what would go.

        Returns:
            Their paths and bytes.
        """
        if not self.exists():
            return {}
        newest = self.version()
        kept = sorted({version for version in versions if version <= newest and self.has_version(version)} | {newest})
        sizes = {path: size for path, (size, _) in storage.list_files(self.uri, hidden=True).items()}
        found = self._open().vacuum(
            math.ceil(grace_hours),
            dry_run,
            enforce_retention_duration=False,
            full=True,
            keep_versions=kept,
            commit_properties=_said(self.properties()),
            post_commithook_properties=_HOOKS,
        )
        # It also names files that a vacuum before has deleted.
        return {path: sizes[path] for path in map(unquote, found) if path in sizes}

    def has_version(self, version: int) -> bool:
        """Whether the log still says what a version holds: it has its entry, and all before it back to a checkpoint."""
        names = storage.list_folder(storage.join(self.uri, "_delta_log"))
        entries = {int(name[:20]) for name in names if re.fullmatch(r"\d{20}\.json", name)}
        starts = [int(name[:20]) for name in names if re.match(r"\d{20}\.checkpoint", name)] + [-1]
        return version in entries and any(
            start <= version and entries.issuperset(range(start + 1, version)) for start in starts
        )

    def _open(self, version: int | None = None) -> deltalake.DeltaTable:
        try:
            return deltalake.DeltaTable(self._url, version=version, storage_options=self._options)
        except DeltaError as error:
            if version is None:
                raise
            raise HTCLError(f"table {self.name} has no version {version}: {error}") from None

    def _commit_once(
        self,
        actions: list[AddAction],
        replace: list[str] | bool,
        append: set[str],
        base: int | None,
        properties: Properties,
    ) -> int:
        schema = deltalake.Schema.from_arrow(self.schema)
        by = [self.partition_by] if self.partition_by else []
        said = _said(properties)
        named = replace if isinstance(replace, bool) else {*replace, *append}
        if not self.exists():
            self._check_base(base, -1, named)
            create_table_with_add_actions(
                self._url, schema, actions, "error", by, configuration=_KEEPS_LOG, storage_options=self._options,
                commit_properties=said, post_commithook_properties=_HOOKS,
            )  # fmt: skip
            return 0
        table = self._open()
        self._check_base(base, table.version(), named)
        filters = self._filters(replace) if replace and not isinstance(replace, bool) else None
        mode = "overwrite" if replace else "append"
        table.create_write_transaction(
            [*actions], mode, schema, by, filters, commit_properties=said, post_commithook_properties=_HOOKS
        )
        table.update_incremental()
        return table.version()

    def _check_base(self, base: int | None, version: int, named: set[str] | bool) -> None:
        if base is None or base == version or named is False:
            return
        then, now = (self._paths(v, named) for v in (base, version))
        if then != now:
            raise OvertakenError(
                f"table {self.name}: another run has changed it meanwhile (version {base} -> {version}); "
                "run the step again when that run has ended"
            )

    def _paths(self, version: int, named: set[str] | bool) -> set[str]:
        parts = self.parts(version) if version >= 0 else []
        return {part.path for part in parts if isinstance(named, bool) or part.partition in named}

    def _action(self, part: Part) -> AddAction:
        return AddAction(
            path=part.path,
            size=part.size,
            partition_values={self.partition_by: part.partition} if self.partition_by else {},
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=json.dumps({"numRecords": part.rows}),
        )

    def _filters(self, partitions: Iterable[str]) -> list[tuple[str, str, Any]]:
        if not self.partition_by:
            raise HTCLError(f"table {self.name} has no partitions; {', '.join(partitions)} cannot be told apart")
        return [(self.partition_by, "in", list(partitions))]


def _said(properties: Properties) -> deltalake.CommitProperties:
    return deltalake.CommitProperties({"htcl": json.dumps(properties)}, max_commit_retries=0)


def rejects_table(workspace: str) -> GrowingTable:
    """Rows and files that were refused, by source."""
    from htcl.schemas import REJECTS

    return GrowingTable(workspace, "rejects", REJECTS, partition_by="source")


def replace_rejects(workspace: str, source: str, rows: list[dict[str, Any]]) -> int:
    """Replace the rejects of one source by `rows` (key, reason, detail, dt, n_rows)."""
    table = rejects_table(workspace)
    columns = {name: [row.get(name) for row in rows] for name in table.schema.names}
    columns["source"] = [source] * len(rows)
    columns["n_rows"] = [row.get("n_rows", 1) for row in rows]
    return table.replace_rows(pa.table(columns, schema=table.schema), replace=[source])
