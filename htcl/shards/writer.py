"""Writes WebDataset tars and notes where each payload lies."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from htcl import storage


@dataclass(frozen=True)
class ShardEntry:
    """Where one track's log-mel lies: bytes [offset, offset + size) of a shard."""

    track_id: str
    shard: str
    offset: int
    size: int
    frames: int
    content_hash: str


def mel_hash(mel: npt.NDArray[np.float16]) -> str:
    """Hash of a log-mel [frames, n_mels], 32 hexadecimal digits; equal audio has equal hashes."""
    return hashlib.blake2b(np.ascontiguousarray(mel).tobytes(), digest_size=16).hexdigest()


class ShardWriter:
    """Fills shards one after another; a shard gets its name when it is complete.

    What was added is in `close`'s and `add`'s return value only once its shard is complete, so an entry
    never points to bytes that are not there.
    """

    def __init__(self, folder: str, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._entries: list[ShardEntry] = []
        self._buffer: Any = None
        self._tar: tarfile.TarFile | None = None
        self._name = ""

    def add(self, track_id: str, mel: npt.NDArray[np.float16]) -> list[ShardEntry]:
        """Append one track [frames, n_mels]; returns the entries of a shard that this completed."""
        if self._tar is None:
            self._name = f"htcl-{uuid.uuid4().hex}.tar"
            self._buffer = tempfile.TemporaryFile()  # noqa: SIM115  (closed in close)
            self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w", format=tarfile.USTAR_FORMAT)
        payload = io.BytesIO()
        np.save(payload, mel, allow_pickle=False)
        content_hash = mel_hash(mel)
        key = f"{len(self._entries):06d}"
        meta = {"track_id": track_id, "frames": len(mel), "content_hash": content_hash}
        offset = self._append(f"{key}.mel.npy", payload.getvalue())
        self._append(f"{key}.json", json.dumps(meta, ensure_ascii=False).encode())
        self._entries.append(ShardEntry(track_id, self._name, offset, payload.tell(), len(mel), content_hash))
        return self.close() if self._tar.offset >= self._max_bytes else []

    def close(self) -> list[ShardEntry]:
        """Complete the open shard and return its entries."""
        if self._tar is None:
            return []
        self._tar.close()
        self._buffer.seek(0)
        with storage.open_atomic(storage.join(self._folder, self._name)) as target:
            while chunk := self._buffer.read(1 << 22):
                target.write(chunk)
        self._buffer.close()
        entries, self._entries, self._tar = self._entries, [], None
        return entries

    def _append(self, name: str, data: bytes) -> int:
        assert self._tar is not None
        info = tarfile.TarInfo(name)
        info.size = len(data)
        offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(info, io.BytesIO(data))
        return offset
