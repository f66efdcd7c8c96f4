"""What the tasks of the shards job return: a place or a reason for every track, and the bytes behind each place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import fsspec
import numpy as np
import pyarrow as pa
import pytest

from htcl.audio.decode import decode_audio
from htcl.audio.features import log_mel
from htcl.audio.isolated import Limits
from htcl.config import AudioConfig
from htcl.errors import HTCLError
from htcl.shards.blocks import HASHES, RESULTS, TRACK, pack, unpack
from htcl.shards.reader import ShardReader
from htcl.shards.tasks import Decoding, decode_tracks, hash_files

TARGET = "tests.unit.audio.targets:misbehave"


def write_song(path: Path, seconds: float = 3.0, rate: int = 16_000, loudness: float = 0.3) -> None:
    noise = loudness * np.random.default_rng(len(path.name)).standard_normal(round(seconds * rate))
    frame = av.AudioFrame.from_ndarray((32767 * np.clip(noise, -1, 1)).astype(np.int16)[None], "s16", "mono")
    frame.sample_rate = rate
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate, layout="mono")
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


@pytest.fixture
def job(tmp_path: Path) -> Decoding:
    (tmp_path / "audio").mkdir()
    limits = Limits(seconds=3, memory_mb=512)
    return Decoding(str(tmp_path / "audio"), str(tmp_path / "shards"), AudioConfig(), limits, 100_000, TARGET)


def tracks(*names: str) -> bytes:
    rows = [{"track_id": name.partition(".")[0], "audio_path": name, "duration_s": None} for name in names]
    return pack(pa.Table.from_pylist(rows, TRACK))


def decode(job: Decoding, *names: str) -> pa.Table:
    return unpack([decode_tracks(tracks(*names), job)], RESULTS).sort_by("track_id")


def test_bad_files_cost_themselves_only(job: Decoding) -> None:
    names = [
        "a.flac",
        "crash-1.flac",
        "b.flac",
        "bomb-1.flac",
        "hang-1.flac",
        "c.flac",
        "gone.flac",
        "../out",
        "d.flac",
    ]
    for name in names:
        if name[:2] not in ("go", ".."):
            write_song(Path(job.root, name))
    results = decode(job, *names).to_pylist()
    found = {row["track_id"]: row["reason"] for row in results}
    assert found == {
        "a": None,
        "b": None,
        "c": None,
        "d": None,
        "crash-1": "decoder_crash",
        "bomb-1": "memory_limit",
        "hang-1": "time_limit",
        "gone": "missing_file",
        "": "path_traversal",
    }
    for row in results:
        if row["reason"]:
            assert row["detail"].startswith(f"{row['track_id']}.flac: " if row["track_id"] else "../out: ")
            assert row["shard"] is None
        else:
            assert row["shard"] and row["content_hash"] and row["warnings"] == []


def test_places_hold_the_log_mel_of_the_file(job: Decoding) -> None:
    names = [f"s{number}.flac" for number in range(9)]
    for number, name in enumerate(names):
        write_song(Path(job.root, name), 3 + number)
    results = decode(job, *names)
    assert results["track_id"].to_pylist() == [name[:2] for name in names]
    assert len(set(results["shard"].to_pylist())) > 1
    mels = ShardReader(job.folder, results).read(np.arange(len(results)))
    for name, row, mel in zip(names, results.to_pylist(), mels, strict=True):
        path = Path(job.root, name)
        np.testing.assert_array_equal(mel, log_mel(decode_audio(path).samples))
        assert row["frames"] == len(mel)
        assert row["file_hash"] == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def test_a_clipped_song_is_used_with_a_warning(job: Decoding) -> None:
    write_song(Path(job.root, "loud.flac"), loudness=3.0)
    (row,) = decode(job, "loud.flac").to_pylist()
    assert row["warnings"] == ["clipped"] and row["shard"]


def test_failing_storage_fails_the_task_by_the_name_of_the_file_and_leaves_the_decoder_usable(job: Decoding) -> None:
    for name in ("a.flac", "network-1.flac"):
        write_song(Path(job.root, name))
    with pytest.raises(HTCLError, match=r"^network-1\.flac cannot be read: .*hung up; check the storage"):
        decode(job, "a.flac", "network-1.flac", "a.flac")
    assert decode(job, "a.flac")["shard"].null_count == 0


def test_hashes_are_of_the_bytes_and_leave_out_what_cannot_be_read(job: Decoding) -> None:
    Path(job.root, "a.flac").write_bytes(b"abc")
    Path(job.root, "b.flac").write_bytes(b"abc")
    rows = unpack([hash_files(tracks("a.flac", "gone.flac", "../x", "b.flac"), job.root)], HASHES).to_pylist()
    expected = hashlib.blake2b(b"abc", digest_size=16).hexdigest()
    assert rows == [{"track_id": "a", "file_hash": expected}, {"track_id": "b", "file_hash": expected}]


def test_object_storage_is_read_like_a_folder(job: Decoding, tmp_path: Path) -> None:
    write_song(Path(job.root, "a.flac"))
    fs = fsspec.filesystem("memory")
    fs.pipe("/songs/a.flac", Path(job.root, "a.flac").read_bytes())
    remote = Decoding("memory://songs", "memory://shards", job.audio, job.limits, job.max_bytes)
    here, there = decode(job, "a.flac"), decode(remote, "a.flac", "gone.flac")
    for name in ("file_hash", "content_hash", "frames"):
        assert there[name][0] == here[name][0]
    assert there["reason"].to_pylist() == [None, "missing_file"]
    ShardReader("memory://shards", there).read(np.array([0]))
