"""Random access to the log-mels in shards by index row."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htcl import storage
from htcl.errors import HTCLError
from htcl.shards.writer import mel_hash


class ShardReader:
    """Reads rows of the index out of the shards below one folder."""

    def __init__(self, folder: str, index: pa.Table) -> None:
        self._folder, self._index = folder, index
        self._fs, self._path = storage.filesystem(folder)

    def read(self, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float16]]:
        """Log-mels [frames, n_mels] of index rows, in their order; ranges are fetched together.

        Raises:
            HTCLError: naming the shard whose bytes are gone or damaged.
        """
        found = self._index.take(pa.array(rows)).select(["track_id", "shard", "offset", "size", "content_hash"])
        entries = found.to_pylist()
        paths = [f"{self._path}/{entry['shard']}" for entry in entries]
        starts = [entry["offset"] for entry in entries]
        ends = [entry["offset"] + entry["size"] for entry in entries]
        try:
            payloads = self._fs.cat_ranges(paths, starts, ends, on_error="raise")
        except FileNotFoundError as error:
            raise HTCLError(
                f"{self._folder} lacks a shard of its index ({error}); "
                "delete the folder artifacts/shards, then run again"
            ) from None
        return [decode_mel(data, entry) for data, entry in zip(payloads, entries, strict=True)]


def decode_mel(payload: bytes, entry: dict[str, object]) -> npt.NDArray[np.float16]:
    """Read a `.mel.npy` payload and hold it against its index entry.

    Raises:
        HTCLError: naming track and shard when the bytes are not those that were indexed.
    """
    try:
        mel = np.load(io.BytesIO(payload), allow_pickle=False)
    except Exception:  # a damaged header raises whatever Python's parser does
        mel = None
    # The hash is of the numbers' bytes: a damaged dtype would read other numbers out of them.
    if mel is None or mel.dtype != np.float16 or mel_hash(mel) != entry["content_hash"]:
        raise HTCLError(
            f"shard {entry['shard']}: the bytes of {entry['track_id']} are damaged; "
            "delete the shard and the folder artifacts/shards, then run again"
        )
    return mel  # type: ignore[no-any-return]
