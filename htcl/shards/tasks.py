"""What the tasks of the shards job do: hash files, decode them into shards, copy songs into fuller shards.

Results are small and go back as Arrow bytes; a task that is killed or run twice leaves shards that nobody was told of.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from htcl.audio.decode import AudioRejected, DecodedAudio, resolve_audio_path
from htcl.audio.isolated import DECODE, IsolatedDecoder, Limits
from htcl.audio.source import LocalAudio, fetch_audio, hash_audio, named
from htcl.config import AudioConfig
from htcl.shards.blocks import HASHES, RESULTS, TRACK, pack, unpack
from htcl.shards.reader import Mel, ShardReader
from htcl.shards.writer import ShardEntry, ShardWriter

_COPY_BYTES = 32 << 20
"""Log-mels that are read at once."""


@dataclass(frozen=True)
class Decoding:
    """What a task is told.

    Attributes:
        root: that audio paths start from.
        folder: of the shards.
        audio: settings of decoding and log-mel.
        limits: of each file.
        max_bytes: after which a shard is closed.
        target: the function that decodes.
    """

    root: str
    folder: str
    audio: AudioConfig
    limits: Limits
    max_bytes: int
    target: str = DECODE


@dataclass(frozen=True)
class _Done:
    """A track, the hash of its file where it was read, and what decoding gave."""

    track: dict[str, Any]
    file_hash: str | None
    outcome: DecodedAudio | AudioRejected


def hash_files(group: bytes, root: str) -> bytes:
    """Rows of HASHES for a group of tracks; a file that is refused is left to decoding, which says why.

    Raises:
        HTCLError: naming a file whose storage failed.
    """
    rows = []
    for track in unpack([group], TRACK).to_pylist():
        try:
            file_hash = hash_audio(resolve_audio_path(root, track["audio_path"]))
        except AudioRejected:
            continue
        rows.append({"track_id": track["track_id"], "file_hash": file_hash})
    return pack(pa.Table.from_pylist(rows, HASHES))


def decode_tracks(group: bytes, job: Decoding) -> bytes:
    """Decode a group of tracks into shards.

    Args:
        group: rows of TRACK.
        job: what to do with them.

    Returns:
        Rows of RESULTS, one a track.

    Raises:
        HTCLError: naming a file whose storage failed or whose copy does not fit; the decoder does not start.
        OSError: a shard cannot be written.
    """
    log_mel = _log_mel()
    writer = ShardWriter(job.folder, job.max_bytes)
    placed: list[ShardEntry] = []
    rows: dict[str, dict[str, Any]] = {}
    for done in _decoded(unpack([group], TRACK).to_pylist(), job, _decoder(job.limits, job.target)):
        track_id, outcome = done.track["track_id"], done.outcome
        row = rows[track_id] = {"track_id": track_id, "file_hash": done.file_hash}
        if isinstance(outcome, AudioRejected):
            detail = f"{done.track['audio_path']}: {outcome.detail}"
            row |= {"reason": str(outcome.reason), "detail": detail}
            continue
        row["warnings"] = [text.partition(":")[0] for text in outcome.warnings]
        placed += writer.add(track_id, log_mel(outcome.samples, job.audio))
    for entry in [*placed, *writer.close()]:
        rows[entry.track_id] |= asdict(entry)
    return pack(pa.Table.from_pylist(list(rows.values()), RESULTS))


def copy_songs(group: bytes, folder: str) -> bytes:
    """Copy songs into one new shard, their bytes held against their hashes.

    Args:
        group: rows of the index.
        folder: of the shards.

    Returns:
        Rows of RESULTS in the order of the group.

    Raises:
        HTCLError: naming a shard whose bytes are gone or damaged.
    """
    songs = pa.ipc.open_stream(group).read_all()
    reader, writer = ShardReader(folder, songs, cache_bytes=0), ShardWriter(folder, sys.maxsize)
    buffer = np.cumsum(songs["size"].to_numpy()) // _COPY_BYTES
    for rows in np.split(np.arange(len(songs)), np.flatnonzero(np.diff(buffer)) + 1):
        for row, mel in zip(rows.tolist(), reader.read(rows), strict=True):
            writer.add(songs["track_id"][row].as_py(), mel)
    return pack(pa.Table.from_pylist([asdict(entry) for entry in writer.close()], RESULTS))


def _decoded(tracks: list[dict[str, Any]], job: Decoding, decoder: IsolatedDecoder) -> Iterator[_Done]:
    """Each track with what decoding gave; the next is decoded while the caller works on one."""
    busy: tuple[dict[str, Any], LocalAudio] | None = None
    for track in tracks:
        try:
            file = fetch_audio(resolve_audio_path(job.root, track["audio_path"]))
        except AudioRejected as rejected:
            yield _Done(track, None, rejected)
            continue
        done = _finish(decoder, *busy) if busy else None
        decoder.submit(
            file.path,
            sample_rate=job.audio.sample_rate,
            max_seconds=job.audio.max_seconds,
            min_seconds=job.audio.min_seconds,
            expected_seconds=track["duration_s"],
        )
        busy = (track, file)
        if done:
            yield done
    if busy:
        yield _finish(decoder, *busy)


def _finish(decoder: IsolatedDecoder, track: dict[str, Any], file: LocalAudio) -> _Done:
    try:
        with named(track["audio_path"]):
            return _Done(track, file.file_hash, decoder.result())
    except AudioRejected as rejected:
        return _Done(track, file.file_hash, rejected)
    finally:
        file.close()


_decoders: dict[tuple[Limits, str], IsolatedDecoder] = {}


def _decoder(limits: Limits, target: str) -> IsolatedDecoder:
    """The child of this process, which later tasks find running."""
    return _decoders.setdefault((limits, target), IsolatedDecoder(limits, target))


def _log_mel() -> Any:
    """The function that makes a log-mel; torch comes with it, once a process."""
    import gc

    import torch

    from htcl.audio.features import log_mel

    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)  # Spark runs one task a core
        gc.freeze()  # PySpark collects garbage after each task: it need not look through torch every time

    def compute(samples: Any, audio: AudioConfig) -> Mel:
        return log_mel(
            samples,
            sample_rate=audio.sample_rate,
            n_mels=audio.n_mels,
            n_fft=audio.n_fft,
            hop_length=audio.hop_length,
            top_db=audio.top_db,
        )

    return compute
