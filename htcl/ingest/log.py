"""One file of the interaction log, in whichever format a platform has, under the names of the contract."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from htcl import storage
from htcl.config import InteractionsConfig
from htcl.errors import HTCLError
from htcl.ingest.reading import csv_header, delimiter
from htcl.ingest.times import parse_times
from htcl.schemas import INTERACTIONS

BATCH_ROWS = 1 << 20
_WORD = pa.dictionary(pa.int32(), pa.string())
_NUMBERS = ("duration_ratio", "played_seconds")
_WORDS = [name for name in INTERACTIONS.names if name not in ("ts", "event_id", *_NUMBERS)]

LOG_ROWS = pa.schema(
    [("ts", pa.timestamp("us", "UTC")), ("ts_text", pa.string()), ("event_id", pa.string())]
    + [(name, _WORD) for name in _WORDS]
    + [(name, pa.float64()) for name in _NUMBERS]
    + [("malformed", pa.bool_())]
)
"""What is read: texts (blank is null); `ts`, null where it cannot be read, then with `ts_text` as it stood there;
numbers, NaN where they cannot be read; `malformed` for rows that could not be told into columns, of which nothing else
is kept."""


def read_log_file(
    uri: str, format_: str, section: InteractionsConfig, row_groups: Sequence[int] | None = None
) -> Iterator[pa.Table]:
    """Read one file in batches of bounded size.

    Args:
        uri: the file.
        format_: parquet, jsonl or csv.
        section: what the columns are called, and the time zone of times that name none.
        row_groups: of a Parquet file those that are read; None for all.

    Yields:
        Tables of LOG_ROWS.

    Raises:
        HTCLError: naming the file, when it cannot be read to its end or a column is no text, number or time.
    """
    source = {name: section.columns.get(name, name) for name in INTERACTIONS.names}
    read = {"csv": _csv, "jsonl": _jsonl}
    found = _parquet(uri, source, row_groups) if format_ == "parquet" else read[format_](uri, source)
    with _named(uri):
        for batch, malformed in found:
            yield _contract(batch, malformed, section.timezone, uri)


def read_log_times(
    uri: str, format_: str, section: InteractionsConfig, row_groups: Sequence[int] | None = None
) -> Iterator[pa.Array]:
    """Only the moments of a file, in batches; see `read_log_file`."""
    if format_ != "parquet":
        for rows in read_log_file(uri, format_, section):
            yield rows["ts"].combine_chunks()
        return
    with _named(uri):
        for batch, _ in _parquet(uri, {"ts": section.columns.get("ts", "ts")}, row_groups):
            if "ts" in batch.column_names:
                yield parse_times(_timely(batch["ts"], uri), section.timezone)


@contextlib.contextmanager
def _named(uri: str) -> Iterator[None]:
    """Name the file that cannot be read."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise HTCLError(f"{uri} cannot be read to its end: {first}; mend or remove the file") from None


def _contract(batch: pa.Table, malformed: int, zone: str, uri: str) -> pa.Table:
    """A batch under the contract's names, with `malformed` empty rows after it."""
    n = len(batch)
    columns: dict[str, Any] = {}
    if "ts" in batch.column_names:
        columns["ts"] = parse_times(_timely(batch["ts"], uri), zone)
        columns["ts_text"] = _unread(batch["ts"], columns["ts"], uri)
    for name in batch.column_names:
        if name in _NUMBERS:
            columns[name] = _numbers(batch[name], name, uri)
        elif name != "ts":
            columns[name] = _text(batch[name], name, uri, LOG_ROWS.field(name).type)
    filled = [columns.get(field.name, pa.nulls(n, field.type)) for field in LOG_ROWS]
    filled[-1] = pa.repeat(False, n)
    rows = pa.table(filled, schema=LOG_ROWS)
    if not malformed:
        return rows
    empty = [pa.nulls(malformed, field.type) for field in LOG_ROWS]
    empty[-1] = pa.repeat(True, malformed)
    return pa.concat_tables([rows, pa.table(empty, schema=LOG_ROWS)])


def _text(column: pa.ChunkedArray, name: str, uri: str, type_: pa.DataType) -> pa.Array:
    """A column as text, blanks as null; words as codes into a dictionary, which is all that is looked at then."""
    words = _as_text(column, name, uri).combine_chunks()
    if type_ != _WORD:
        return _without_blanks(words.cast(pa.string()))
    words = words if pa.types.is_dictionary(words.type) else words.dictionary_encode()
    meant = _without_blanks(words.dictionary)
    if not meant.null_count:
        return words.cast(_WORD)
    return meant.take(words.indices).dictionary_encode()


def _timely(column: pa.ChunkedArray, uri: str) -> pa.ChunkedArray:
    """A column that times may be read from."""
    return _as_text(column, "ts", uri) if pa.types.is_nested(column.type) else column


def _as_text(column: pa.ChunkedArray, name: str, uri: str) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type):
        return column.unify_dictionaries()
    if pa.types.is_floating(kind) and name != "ts":
        column = _whole(column, name, uri)
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise HTCLError(
            f"{uri}: the column of {name} is of type {kind}, which is no text, number or time; "
            f"map another with interactions.columns.{name}"
        ) from None


def _whole(column: pa.ChunkedArray, name: str, uri: str) -> pa.ChunkedArray:
    """Ids that became floats because some are missing, as the whole numbers that they were; NaN is a missing one."""
    known = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column).cast(pa.float64())
    exact = float(2 ** {16: 11, 32: 24}.get(column.type.bit_width, 53))
    whole = pc.and_(pc.equal(known, pc.floor(known)), pc.less(pc.abs(known), exact))
    if not pc.all(whole, min_count=0).as_py():
        raise HTCLError(
            f"{uri}: the column of {name} holds numbers that are not whole or too long for a float, which rounds them; "
            "write these ids as text or integers"
        )
    return known.cast(pa.int64())


def _without_blanks(text: pa.Array) -> pa.Array:
    blank = pc.match_substring_regex(text, r"^\s*$")
    return pc.if_else(blank, pa.scalar(None, pa.string()), text) if pc.any(blank).as_py() else text


def _unread(column: pa.ChunkedArray, times: pa.Array, uri: str) -> pa.Array:
    """The times that could not be read, as they stood there; null for the others."""
    failed = pc.and_(times.is_null(), column.combine_chunks().is_valid())
    if not pc.any(failed).as_py():
        return pa.nulls(len(times), pa.string())
    seen = _as_text(column.filter(failed), "ts", uri).combine_chunks()
    return pc.replace_with_mask(pa.nulls(len(times), pa.string()), failed, _without_blanks(seen))


def _numbers(column: pa.ChunkedArray, name: str, uri: str) -> pa.Array:
    """A column as numbers, NaN for what is none; in a column of numbers NaN means that there is none."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = column.cast(pa.float64()).combine_chunks()
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    text = _without_blanks(_as_text(column, name, uri).combine_chunks())
    values = pd.to_numeric(text.to_pandas(), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return pa.array(values, pa.float64(), mask=np.asarray(text.is_null()))


def _parquet(
    uri: str, source: dict[str, str], row_groups: Sequence[int] | None = None
) -> Iterator[tuple[pa.Table, int]]:
    fs, path = storage.filesystem(uri)
    with fs.open(path, "rb") as handle:
        plain = pq.ParquetFile(handle)
        schema = plain.schema_arrow
        present = {name: column for name, column in source.items() if column in schema.names}
        # Ids repeat: read as codes into their dictionary, they cost a fraction.
        words = [
            present[name] for name in _WORDS if name in present and pa.types.is_string(schema.field(present[name]).type)
        ]
        file = pq.ParquetFile(handle, metadata=plain.metadata, read_dictionary=words)
        columns = list(dict.fromkeys(present.values()))
        for batch in file.iter_batches(BATCH_ROWS, row_groups=row_groups, columns=columns):
            yield pa.table({name: batch[column] for name, column in present.items()}), _strangers(batch, present)


def _csv(uri: str, source: dict[str, str]) -> Iterator[tuple[pa.Table, int]]:
    header = csv_header(uri)
    # By place, since headers of the wild hold names that are empty or stand twice; of two the last counts.
    places = {name: str(place) for place, name in enumerate(header)}
    present = {name: places[column] for name, column in source.items() if column in places}
    strange: list[pv.InvalidRow] = []

    def refuse(row: pv.InvalidRow) -> str:
        strange.append(row)
        return "skip"

    fs, path = storage.filesystem(uri)
    with fs.open(path, "rb", compression="infer") as handle:
        if not header:
            return
        reader = pv.open_csv(
            handle,
            pv.ReadOptions(use_threads=False, block_size=1 << 24, column_names=[str(n) for n in range(len(header))]),
            pv.ParseOptions(delimiter=delimiter(uri), newlines_in_values=True, invalid_row_handler=refuse),
            pv.ConvertOptions(
                column_types={str(n): pa.binary() for n in range(len(header))},
                include_columns=list(dict.fromkeys(present.values())),
                strings_can_be_null=True,
                null_values=[""],
                check_utf8=False,
            ),
        )
        seen = 0
        for number, found in enumerate(reader):
            batch = found if number else found.slice(1)  # the header
            refused = len(strange) - seen + _strangers(batch, present)
            yield pa.table({name: decoded(batch[place]) for name, place in present.items()}), refused
            seen = len(strange)
        if len(strange) > seen:
            yield pa.table({name: pa.array([], pa.string()) for name in present}), len(strange) - seen


def _strangers(batch: pa.RecordBatch, present: dict[str, str]) -> int:
    """Rows of a batch that has no column of the contract, such as those of a CSV file without a header."""
    return 0 if present else int(batch.num_rows)


def decoded(column: pa.Array) -> pa.Array:
    """Bytes as text; what is no UTF-8 becomes U+FFFD."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:  # bytes that are no UTF-8
        return pa.array([None if v is None else v.decode(errors="replace") for v in column.to_pylist()], pa.string())


def _jsonl(uri: str, source: dict[str, str]) -> Iterator[tuple[pa.Table, int]]:
    fs, path = storage.filesystem(uri)
    with fs.open(path, "rb", compression="infer") as handle:
        lines: list[bytes] = []
        for line in handle:
            lines.append(line)
            if len(lines) == BATCH_ROWS // 8:
                yield _json_rows(lines, source)
                lines = []
        yield _json_rows(lines, source)


def _json_rows(lines: list[bytes], source: dict[str, str]) -> tuple[pa.Table, int]:
    parsed = [_parsed(line) for line in lines if not line.isspace()]
    rows = [row for row in parsed if row is not None]
    columns = {name: _texts([_plain(row.get(column)) for row in rows]) for name, column in source.items()}
    return pa.table(columns), len(parsed) - len(rows)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line.decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _plain(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _texts(values: list[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # half of a character, as JSON can write it
        return pa.array([None if v is None else v.encode(errors="replace").decode() for v in values], pa.string())
