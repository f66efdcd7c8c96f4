"""The log as pieces of work: its files, the large ones among them cut at their row groups."""

from __future__ import annotations

import pyarrow.parquet as pq

from htcl import storage
from htcl.config import InteractionsConfig
from htcl.errors import HTCLError
from htcl.ingest.reading import column_names, input_files
from htcl.pairs.log_index import LogFile
from htcl.pairs.tasks import Unit
from htcl.schemas import INTERACTIONS, require_columns

SAMPLED_FILES = 50
"""Files whose columns are looked at before anything runs."""

UNIT_BYTES = 256 << 20
"""A Parquet file above this is read in pieces."""


def log_files(section: InteractionsConfig) -> tuple[str, dict[str, LogFile]]:
    """The files of the log as they are now.

    Returns:
        (format, files by path); their days are not known yet.

    Raises:
        HTCLError: no events, a missing column, files of several formats.
    """
    format_, uris = input_files(section.path, section.format, "interactions")
    present = column_names(uris[:SAMPLED_FILES], format_, wanted=section.columns.values())
    if not present:
        raise HTCLError(f"interactions.path: {section.path} holds no events")
    require_columns(section.columns, present, INTERACTIONS, "interactions")
    tags = storage.list_files(section.path)
    wanted = set(uris)
    single = uris == [section.path]
    return format_, {
        path: LogFile(path, f"{size} {tag}")
        for path, (size, tag) in tags.items()
        if single or storage.join(section.path, path) in wanted
    }


def units_of(section: InteractionsConfig, format_: str, files: list[LogFile]) -> list[Unit]:
    """Pieces of work, large files first so that no task ends long after the others.

    Args:
        section: where the log lies.
        format_: of its files.
        files: what is read; a file's number is its place here.
    """
    units: list[tuple[int, Unit]] = []
    for number, file in enumerate(files):
        uri = file_uri(section, file.path)
        pieces = _row_groups(uri, file.size) if format_ == "parquet" and file.size > UNIT_BYTES else [None]
        units += [(file.size // len(pieces), Unit(number, uri, piece)) for piece in pieces]
    return [unit for _, unit in sorted(units, key=lambda found: -found[0])]


def file_uri(section: InteractionsConfig, path: str) -> str:
    """Where a file of the log lies."""
    fs, native = storage.filesystem(section.path)
    return section.path if fs.isfile(native) else storage.join(section.path, path)


def _row_groups(uri: str, size: int) -> list[tuple[int, ...] | None]:
    fs, path = storage.filesystem(uri)
    with fs.open(path, "rb") as handle:
        groups = pq.ParquetFile(handle).num_row_groups
    pieces = min(groups, -(-size // UNIT_BYTES))
    return [tuple(range(n, groups, pieces)) for n in range(pieces)]
