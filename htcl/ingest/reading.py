"""Rows out of Parquet, JSONL and CSV files, whichever a platform has."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from htcl import storage
from htcl.errors import HTCLError

SUFFIXES = {
    "parquet": (".parquet",),
    "jsonl": (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz"),
    "csv": (".csv", ".csv.gz", ".tsv"),
}


def input_files(path: str, format_: str, origin: str) -> tuple[str, list[str]]:
    """Find the files of an input and their one format.

    Args:
        path: file, folder or URI.
        format_: parquet, jsonl, csv, or auto.
        origin: config section, named in errors.

    Returns:
        (format, file URIs in order).

    Raises:
        HTCLError: nothing there, or files of several or unknown formats.
    """
    names = storage.list_files(path)
    if format_ == "auto":
        found = {kind for kind, ends in SUFFIXES.items() if any(n.lower().endswith(ends) for n in names)}
        if len(found) != 1:
            what = "files of several formats" if found else "no Parquet, JSONL or CSV file"
            raise HTCLError(f"{origin}.path: {path} holds {what}; set {origin}.format or point to the right folder")
        format_ = found.pop()
    # A format that is named also reads files whose names do not tell it.
    names = {n: v for n, v in names.items() if n.lower().endswith(SUFFIXES[format_])} or names
    fs, native = storage.filesystem(path)
    return format_, [path] if fs.isfile(native) else [storage.join(path, name) for name in names]


def read_rows(files: list[str], format_: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield (place, row) for every row; a row that cannot be parsed is None.

    `place` names file and line for the rejects.
    """
    for uri in files:
        name = PurePath(uri).name
        if format_ == "parquet":
            for number, row in enumerate(_parquet_rows(uri)):
                yield f"{name}:{number}", row
        else:
            yield from _text_rows(uri, name, format_)


def column_names(files: list[str], format_: str, sample: int = 1000, wanted: Iterable[str] = ()) -> list[str]:
    """Columns of an input.

    Args:
        files: file URIs.
        format_: parquet, jsonl or csv.
        sample: rows that are looked at; of Parquet the files' schemas are.
        wanted: names that are looked for beyond the sample, to the end if need be.

    Returns:
        The names that were seen, in order.
    """
    names: dict[str, None] = {}
    missing = set(wanted)
    for number, seen in enumerate(_seen_names(files, format_)):
        names.update(dict.fromkeys(seen))
        missing.difference_update(seen)
        if number >= sample and not missing:
            break
    return list(names)


def delimiter(uri: str) -> str:
    """What separates the cells of a CSV file."""
    return "\t" if uri.lower().endswith(".tsv") else ","


def csv_header(uri: str) -> list[str]:
    """Column names of one CSV file, in order; none where it is empty."""
    with _open_text(uri) as text:
        return list(csv.DictReader(text, delimiter=delimiter(uri)).fieldnames or [])


def parquet_schema(uri: str) -> pa.Schema:
    """Columns of one Parquet file.

    Raises:
        HTCLError: when it is none.
    """
    fs, path = storage.filesystem(uri)
    with fs.open(path, "rb") as handle:
        return _parquet_file(uri, handle).schema_arrow


def _seen_names(files: list[str], format_: str) -> Iterator[Iterable[str]]:
    if format_ == "parquet":
        for uri in files:
            yield parquet_schema(uri).names
    else:
        for _, row in read_rows(files, format_):
            yield row or ()


def _parquet_rows(uri: str) -> Iterator[dict[str, Any]]:
    fs, path = storage.filesystem(uri)
    with fs.open(path, "rb") as handle:
        for batch in _parquet_file(uri, handle).iter_batches():
            yield from batch.to_pylist()


def _parquet_file(uri: str, handle: IO[bytes]) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(handle)
    except Exception as error:
        raise HTCLError(f"{uri} is not a readable Parquet file: {error}") from None


def _text_rows(uri: str, name: str, format_: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    with _open_text(uri) as text:
        if format_ == "csv":
            yield from _csv_rows(text, name)
        else:
            for number, line in enumerate(text, start=1):
                if line.strip():
                    yield f"{name}:{number}", _parse_json(line)


@contextlib.contextmanager
def _open_text(uri: str) -> Iterator[io.TextIOWrapper]:
    fs, path = storage.filesystem(uri)
    try:
        with fs.open(path, "rb", compression="infer") as handle:
            # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
            yield io.TextIOWrapper(handle, encoding="utf-8-sig", errors="replace", newline="")
    except (csv.Error, EOFError, OSError, zlib.error) as error:
        raise HTCLError(f"{uri} cannot be read to its end: {error}; mend or remove the file") from None


def _csv_rows(text: io.TextIOWrapper, name: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    reader = csv.DictReader(text, delimiter=delimiter(name))
    for row in reader:
        surplus: Any = row.pop(None, [])
        # A cell too many means a comma without quotes: the cells after it stand under wrong names.
        shifted = any(surplus)
        yield f"{name}:{reader.line_num}", None if shifted else {k: v or None for k, v in row.items()}


def _parse_json(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
