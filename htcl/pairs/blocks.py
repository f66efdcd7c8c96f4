"""Rows on their way between tasks: compressed Arrow blocks, so that Spark moves bytes and converts no row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from htcl.pairs.counting import FIGURES, Counts
from htcl.pairs.sketches import offsets_of
from htcl.pairs.sorting import Int64

_SONG = pa.dictionary(pa.int32(), pa.string())

EVENTS = pa.schema(
    [
        ("user", pa.int64()),
        ("session", pa.int64()),
        ("ts", pa.int64()),
        ("track", _SONG),
        ("trigger", _SONG),
        ("response", pa.int8()),
        ("event", pa.int64()),
        ("file", pa.int32()),
    ]
)
"""Judged events: keyed hash of the user, hashes of session (-1: none) and event id (0: none), microseconds; `file` is
the number of the log file."""

COUNTS = pa.schema(
    [
        ("day", pa.int32()),
        ("source", pa.int8()),
        ("anchor", _SONG),
        ("positive", _SONG),
        ("n_baskets", pa.int64()),
        ("weight", pa.int64()),
        ("n_negative", pa.int64()),
        ("n_impressions", pa.int64()),
        ("users", pa.list_(pa.int64())),
    ]
)
"""Partial counts: columns of `Counts`, songs by their id."""


def pack(rows: pa.Table) -> bytes:
    """Rows as one compressed block."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def unpack(blocks: Iterable[bytes]) -> pa.Table | None:
    """The rows of several blocks of one schema; None where there is no block."""
    tables = [pa.ipc.open_stream(block).read_all() for block in blocks]
    return pa.concat_tables(tables) if tables else None


def shared_out(rows: pa.Table, part: Int64, parts: int) -> Iterator[tuple[int, bytes]]:
    """Rows as one block for each part that has any.

    Args:
        rows: with dictionary columns; each block takes along only the words that it needs.
        part: part of each row [n], from 0.
        parts: number of parts.
    """
    order = np.argsort(part, kind="stable")
    rows = rows.take(pa.array(order)).combine_chunks()
    bounds = np.searchsorted(part[order], np.arange(parts + 1))
    for number in range(parts):
        start, end = int(bounds[number]), int(bounds[number + 1])
        if end > start:
            yield number, pack(_compact(rows.slice(start, end - start)))


def _compact(rows: pa.Table) -> pa.Table:
    columns = []
    for field, column in zip(rows.schema, rows.columns, strict=True):
        is_words = pa.types.is_dictionary(field.type)
        columns.append(_needed_words(column.combine_chunks()) if is_words else column)
    return pa.table(columns, schema=rows.schema)


def _needed_words(column: pa.DictionaryArray) -> pa.DictionaryArray:
    codes = np.asarray(pc.fill_null(column.indices, -1))
    used, places = np.unique(codes, return_inverse=True)
    first = 1 if len(used) and used[0] < 0 else 0
    words = column.dictionary.take(pa.array(used[first:]))
    places = (places - first).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(places, mask=places < 0), words)


def song_codes(*columns: pa.ChunkedArray) -> tuple[list[Int64], pa.Array]:
    """Codes of songs that order as their ids do.

    Args:
        columns: dictionary-encoded ids; null becomes -1.

    Returns:
        (codes of each column [n], the ids by code).
    """
    joined = pa.chunked_array([chunk for column in columns for chunk in column.chunks], type=_SONG)
    unified = joined.unify_dictionaries()
    words = unified.chunk(0).dictionary if unified.num_chunks else pa.array([], pa.string())
    order = np.asarray(pc.sort_indices(words))
    rank = np.empty(len(order) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    rank[-1] = -1  # the code of null
    codes = [rank[np.asarray(pc.fill_null(chunk.indices, -1))] for chunk in unified.chunks]
    flat = np.concatenate(codes) if codes else np.zeros(0, dtype=np.int64)
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return np.split(flat, ends), words.take(pa.array(order))


def counts_table(counts: Counts, songs: pa.Array) -> pa.Table:
    """Counts as rows of COUNTS, codes being places in `songs`."""
    columns = [
        pa.array(counts.day.astype(np.int32)),
        pa.array(counts.source.astype(np.int8)),
        pa.DictionaryArray.from_arrays(pa.array(counts.anchor.astype(np.int32)), songs),
        pa.DictionaryArray.from_arrays(pa.array(counts.positive.astype(np.int32)), songs),
        *(pa.array(figure) for figure in counts.figures),
        pa.ListArray.from_arrays(pa.array(counts.offsets.astype(np.int32)), pa.array(counts.users)),
    ]
    return pa.table(columns, schema=COUNTS)


def table_counts(rows: pa.Table) -> tuple[Counts, pa.Array]:
    """Rows of COUNTS as counts, and the ids that their codes stand for."""
    (anchor, positive), songs = song_codes(rows["anchor"], rows["positive"])
    sizes = np.asarray(pc.list_value_length(rows["users"]))
    users = np.asarray(pc.list_flatten(rows["users"]), dtype=np.int64)
    day, source, *figures = (np.asarray(rows[name], dtype=np.int64) for name in ("day", "source", *FIGURES))
    return Counts(day, source, anchor, positive, np.stack(figures), users, offsets_of(sizes)), songs
