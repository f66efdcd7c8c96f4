"""Random access to the log-mels in shards by index row."""

from __future__ import annotations

import errno
import re
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htcl import storage
from htcl.errors import HTCLError
from htcl.shards.writer import mel_hash

Mel = npt.NDArray[np.float16]

PARALLEL_READS = 16
"""Ranges that are read at once: object storage answers each slowly but many together."""
GAP_BYTES = 1 << 20
"""Ranges of one shard that lie closer than this are read as one."""
MEND = "delete the shard and the folder artifacts/shards, then run again"
"""What to do about a damaged shard."""
_NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<f2', 'fortran_order': (?P<fortran>False|True), "
    rb"'shape': \((?P<frames>\d+), (?P<n_mels>\d+)\), \} *\n",
    re.DOTALL,
)
"""What `numpy.save` writes before a log-mel. `numpy.load` parses it with `ast`, which fails now and then where
several threads do so at once (https://github.com/python/cpython/issues/106905)."""
CACHE_BYTES = 1 << 30
"""Log-mels kept in memory: stage 2 reads a song once for each of its pairs."""


@dataclass(frozen=True)
class _Range:
    """Bytes [start, end) of a shard, and the index entries in it."""

    shard: str
    start: int
    end: int
    entries: list[dict[str, Any]]


class ShardReader:
    """Reads rows of the index out of the shards below one folder, and remembers the latest."""

    def __init__(self, folder: str, index: pa.Table, cache_bytes: int = CACHE_BYTES) -> None:
        self._folder, self._index, self._room = folder, index, cache_bytes
        self._fs, self._path = storage.filesystem(folder)
        self._pool = ThreadPoolExecutor(PARALLEL_READS, thread_name_prefix="shards")
        self._known: OrderedDict[int, Mel] = OrderedDict()

    def read(self, rows: npt.NDArray[np.int64]) -> list[Mel]:
        """Log-mels [frames, n_mels] of index rows, in their order; what is not remembered is fetched together.

        Raises:
            HTCLError: naming the shard whose bytes are gone or damaged.
        """
        found = {row: self._known[row] for row in rows.tolist() if row in self._known}
        new = np.array(sorted(set(rows.tolist()) - found.keys()), dtype=np.int64)
        for mels in self._pool.map(self._fetch, self._ranges(new)):
            found |= mels
        self._remember(found)
        return [found[row] for row in rows.tolist()]

    def _ranges(self, rows: npt.NDArray[np.int64]) -> Iterator[_Range]:
        """Few, large ranges that cover the rows."""
        columns = ["track_id", "shard", "offset", "size", "content_hash"]
        entries = self._index.select(columns).take(pa.array(rows)).to_pylist()
        for entry, row in zip(entries, rows.tolist(), strict=True):
            entry["row"] = row
        entries.sort(key=lambda entry: (entry["shard"], entry["offset"]))
        group: list[dict[str, Any]] = []
        for entry in entries:
            if group and not _near(group[-1], entry):
                yield _covering(group)
                group = []
            group.append(entry)
        if group:
            yield _covering(group)

    def _fetch(self, part: _Range) -> dict[int, Mel]:
        try:
            data = self._fs.cat_file(f"{self._path}/{part.shard}", start=part.start, end=part.end)
        except FileNotFoundError as error:
            raise HTCLError(
                f"{self._folder} lacks a shard of its index ({error}); "
                "delete the folder artifacts/shards, then run again"
            ) from None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            data = b""  # how object storage says that the shard ends before the range begins
        places = ((entry, entry["offset"] - part.start) for entry in part.entries)
        return {entry["row"]: decode_mel(data[at : at + entry["size"]], entry) for entry, at in places}

    def _remember(self, mels: dict[int, Mel]) -> None:
        for row, mel in mels.items():
            if row not in self._known:
                self._room -= mel.nbytes
            self._known[row] = mel
            self._known.move_to_end(row)
        while self._room < 0:
            self._room += self._known.popitem(last=False)[1].nbytes


def _near(before: dict[str, Any], entry: dict[str, Any]) -> bool:
    gap: int = entry["offset"] - before["offset"] - before["size"]
    return bool(before["shard"] == entry["shard"] and gap <= GAP_BYTES)


def _covering(entries: list[dict[str, Any]]) -> _Range:
    first, last = entries[0], entries[-1]
    return _Range(first["shard"], first["offset"], last["offset"] + last["size"], entries)


def decode_mel(payload: bytes, entry: dict[str, object]) -> Mel:
    """Read a `.mel.npy` payload and hold it against its index entry.

    Raises:
        HTCLError: naming track and shard when the bytes are not those that were indexed.
    """
    mel = _parse_npy(payload)
    # The hash is of the numbers' bytes: a damaged header would read other numbers out of them, or none.
    if mel is None or mel_hash(mel) != entry["content_hash"]:
        raise HTCLError(f"shard {entry['shard']}: the bytes of {entry['track_id']} are damaged; {MEND}")
    return mel


def _parse_npy(payload: bytes) -> Mel | None:
    """The numbers of a `.mel.npy` [frames, n_mels]; None where it is not as `numpy.save` writes one."""
    header = _NPY_HEADER.match(payload)
    if header is None:
        return None
    shape = int(header["frames"]), int(header["n_mels"])
    if len(payload) - header.end() != np.dtype(np.float16).itemsize * shape[0] * shape[1]:
        return None
    order: Literal["C", "F"] = "F" if header["fortran"] == b"True" else "C"
    numbers = np.frombuffer(payload, np.float16, offset=header.end())
    return np.array(numbers.reshape(shape, order=order), order="C")  # a copy, which can be written to
