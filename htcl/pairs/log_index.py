"""Which files the counts were made from, and which days each has events of: what has to be counted again."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from htcl import storage
from htcl.config import PipelineConfig, fingerprint
from htcl.schemas import LOG_FILES
from htcl.tables import Properties
from htcl.users import forgotten_users

SETTINGS, FORGOTTEN, FILES, USER_KEY, RECOUNTED = "settings", "forgotten", "files", "user_key", "recounted"
"""Properties of a commit of counts: fingerprint of the settings that they hang on, of the users that were passed over
on every day, the name of the file index, which key users were hashed with, and what ranges of days changed that were
asked for, which no file of the log tells."""

COUNTS_VERSION = 1
"""Raised when counts of the same log and settings come out differently."""

_COUNTING = {
    "session_gap_minutes",
    "max_basket_size",
    "lookback_days",
    "heavy_user_percentile",
    "heavy_users",
}
"""Settings of `pairs` that counts hang on; all others only change the snapshot."""


@dataclass(frozen=True)
class LogFile:
    """One file of the log.

    Attributes:
        path: relative to the log.
        tag: size and change tag.
        days: days since 1970 that it has events of; None where nobody has looked yet.
    """

    path: str
    tag: str
    days: frozenset[int] | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.tag.partition(" ")[0])


def counting_settings(config: PipelineConfig) -> str:
    """Fingerprint of the settings that counts hang on."""
    interactions = config.interactions.model_dump(mode="json", exclude={"path", "format", "max_reject_share"})
    pairs = config.pairs.model_dump(mode="json", include=_COUNTING)
    ordered = "copreference" not in config.pairs.symmetric_sources
    return fingerprint({"version": COUNTS_VERSION, "interactions": interactions, "pairs": pairs, "ordered": ordered})


def forgotten_fingerprint(workspace: str) -> str:
    """Fingerprint of the users that are to be passed over; it tells none of them."""
    return fingerprint(forgotten_users(workspace))


def counted_files(properties: Properties, workspace: str) -> dict[str, LogFile]:
    """The files that counts were made from, by path, as the properties of their commit tell."""
    name = properties.get(FILES)
    if not name:
        return {}
    rows = pq.read_table(io.BytesIO(storage.read_bytes(_uri(workspace, name)))).to_pylist()
    return {row["path"]: LogFile(row["path"], row["tag"], frozenset(row["days"])) for row in rows}


def save_files(workspace: str, files: Iterable[LogFile]) -> str:
    """Write a file index under a name that is its content's; returns the name."""
    ordered = sorted(files, key=lambda file: file.path)
    columns = {
        "path": [file.path for file in ordered],
        "tag": [file.tag for file in ordered],
        "days": [sorted(file.days or ()) for file in ordered],
    }
    name = fingerprint(columns)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=LOG_FILES), sink, compression="zstd")
    storage.write_bytes(_uri(workspace, name), sink.getvalue())
    return name


def merge_files(
    counted: Mapping[str, LogFile],
    now: Iterable[LogFile],
    days: frozenset[int] | None,
    kept: frozenset[int] = frozenset(),
    dateless: Collection[str] = (),
) -> list[LogFile]:
    """The file index after some days were counted from the files of now.

    Args:
        counted: the index before.
        now: files whose days are known.
        days: what was counted; None for all.
        kept: of these the days that stay as they were counted before.
        dateless: files without a single day that were read.

    A file whose every day, of now and of before, was counted is up to date; another stays as it was counted. A file
    that is gone stays as long as the counts of one of its days do.
    """
    files = {file.path: file for file in now}
    gone = [file for file in counted.values() if file.path not in files]
    if days is None:
        return list(files.values())
    index = {file.path: file for file in gone if file.days and not file.days <= days - kept}
    for path, file in files.items():
        before = counted.get(path)
        touched = (file.days or frozenset()) | ((before.days or frozenset()) if before else frozenset())
        if touched <= days and (file.days or path in dateless):
            index[path] = file
        elif before is not None:
            index[path] = before
    return list(index.values())


def new_files(counted: Mapping[str, LogFile], now: Iterable[LogFile]) -> list[LogFile]:
    """Files that are new, or not as they were when they were counted."""
    return [file for file in now if (before := counted.get(file.path)) is None or before.tag != file.tag]


def stale_days(counted: Mapping[str, LogFile], now: Iterable[LogFile]) -> frozenset[int]:
    """Days of files that are new or changed since they were counted, as they were and as they are.

    Args:
        counted: the index.
        now: the files of now; the days of new and changed ones are known.
    """
    days: set[int] = set()
    for file in new_files(counted, now):
        before = counted.get(file.path)
        days |= file.days or frozenset()
        days |= (before.days or frozenset()) if before else frozenset()
    return frozenset(days)


def index_folder(workspace: str) -> str:
    """Where file indexes lie."""
    return storage.join(workspace, "tables", "log_files")


def _uri(workspace: str, name: str) -> str:
    return storage.join(index_folder(workspace), f"{name}.parquet")
