"""What the writer writes: plain WebDataset, found again by the index, and never taken on trust."""

import io
import json
import tarfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import webdataset as wds
from fsspec.implementations.local import LocalFileSystem
from hypothesis import example, given, settings
from hypothesis import strategies as st

from htcl import storage
from htcl.errors import HTCLError
from htcl.schemas import SHARDS
from htcl.shards import reader as shard_reader
from htcl.shards.index import read_index, rows_of, write_index
from htcl.shards.reader import ShardReader, decode_mel
from htcl.shards.writer import ShardWriter, mel_hash

N_MELS = 8


def mel(number, frames=None):
    rng = np.random.default_rng(number)
    return rng.normal(size=(frames or 5 + number, N_MELS)).astype(np.float16)


def write(folder, tracks, max_bytes=10**9):
    writer = ShardWriter(str(folder), max_bytes)
    entries = [entry for number, track in enumerate(tracks) for entry in writer.add(track, mel(number))]
    return entries + writer.close()


def index_of(entries):
    rows = [asdict(e) | {"source_tag": "", "split_group": e.track_id, "split": "train"} for e in entries]
    return pa.Table.from_pylist(rows, SHARDS)


def visible(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def shard(tmp_path):
    """A folder with one shard of four tracks, and its entries."""
    folder = tmp_path / "shards"
    return folder, write(folder, ["a", "b", "c", "d"])


@pytest.fixture(scope="module")
def one_song_shards(tmp_path_factory):
    """A folder with eight shards of one track each, and their entries."""
    folder = tmp_path_factory.mktemp("shards")
    return folder, write(folder, "abcdefgh", max_bytes=1)


def count_reads(monkeypatch):
    """What is asked of the filesystem from now on: (shard, start, end) of each call."""
    calls, cat_file = [], LocalFileSystem.cat_file

    def counted(self, path, start=None, end=None, **more):
        calls.append((Path(path).name, start, end))
        return cat_file(self, path, start=start, end=end, **more)

    monkeypatch.setattr(LocalFileSystem, "cat_file", counted)
    return calls


@pytest.fixture
def reads(monkeypatch):
    return count_reads(monkeypatch)


def assert_reads(reader, rows):
    for number, values in zip(rows, reader.read(np.array(rows, np.int64)), strict=True):
        assert values.dtype == np.float16
        np.testing.assert_array_equal(values, mel(number))


def test_webdataset_reads_the_shards(shard):
    folder, entries = shard
    samples = list(wds.WebDataset(str(folder / entries[0].shard), shardshuffle=False))
    assert [json.loads(sample["json"])["track_id"] for sample in samples] == ["a", "b", "c", "d"]
    for number, sample in enumerate(samples):
        np.testing.assert_array_equal(np.load(io.BytesIO(sample["mel.npy"])), mel(number))
        facts = {"track_id": "abcd"[number], "frames": 5 + number, "content_hash": mel_hash(mel(number))}
        assert json.loads(sample["json"]) == facts


def test_plain_tar_reads_the_shards(shard):
    folder, entries = shard
    with tarfile.open(folder / entries[0].shard) as tar:
        names = tar.getnames()
        assert names[:2] == ["000000.mel.npy", "000000.json"] and len(names) == len(set(names)) == 8
        for entry, member in zip(entries, tar.getmembers()[::2], strict=True):
            assert (entry.offset, entry.size) == (member.offset_data, member.size)


def test_offsets_point_to_the_bytes(shard):
    folder, entries = shard
    for number, entry in enumerate(entries):
        with (folder / entry.shard).open("rb") as handle:
            handle.seek(entry.offset)
            found = np.load(io.BytesIO(handle.read(entry.size)))
        np.testing.assert_array_equal(found, mel(number))
        assert entry.frames == len(found)


def test_shards_are_closed_at_their_size(tmp_path):
    tracks = [f"t{number}" for number in range(6)]
    entries = write(tmp_path, tracks, max_bytes=3_000)
    shards = list(dict.fromkeys(entry.shard for entry in entries))
    assert [entry.track_id for entry in entries] == tracks
    assert len(shards) > 1 and visible(tmp_path) == sorted(shards)
    reader = ShardReader(str(tmp_path), index_of(entries))
    for number, found in enumerate(reader.read(np.arange(6))):
        np.testing.assert_array_equal(found, mel(number))


def test_writer_without_tracks_writes_nothing(tmp_path):
    assert ShardWriter(str(tmp_path), 1).close() == []
    assert visible(tmp_path) == []


def test_nothing_is_visible_before_a_shard_is_complete(tmp_path):
    writer = ShardWriter(str(tmp_path), 10**9)
    assert writer.add("a", mel(0)) == []
    assert visible(tmp_path) == []
    assert len(writer.close()) == 1 and writer.close() == []
    assert len(visible(tmp_path)) == 1


def test_a_failed_writer_leaves_nothing_visible(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    writer = ShardWriter(str(tmp_path), 10**9)
    writer.add("a", mel(0))
    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            writer.close()
    assert visible(tmp_path) == []
    (entry,) = writer.close()
    np.testing.assert_array_equal(ShardReader(str(tmp_path), index_of([entry])).read(np.array([0]))[0], mel(0))


def test_reader_returns_rows_in_the_order_asked(shard):
    folder, entries = shard
    assert_reads(ShardReader(str(folder), index_of(entries)), [3, 0, 2])


def test_rows_asked_for_twice_in_one_call_are_read_once(shard, reads):
    folder, entries = shard
    assert_reads(ShardReader(str(folder), index_of(entries)), [3, 0, 3, 2, 0])
    assert len(reads) == 1


def test_no_rows_are_no_read(shard, reads):
    folder, entries = shard
    assert ShardReader(str(folder), index_of(entries)).read(np.zeros(0, np.int64)) == [] == reads


def test_near_ranges_of_a_shard_are_read_as_one(shard, reads):
    folder, entries = shard
    assert_reads(ShardReader(str(folder), index_of(entries)), [3, 1, 2])
    assert reads == [(entries[0].shard, entries[1].offset, entries[3].offset + entries[3].size)]


def test_a_gap_above_the_limit_parts_the_ranges(shard, reads, monkeypatch):
    folder, entries = shard
    gap = entries[2].offset - entries[0].offset - entries[0].size
    for limit, parts in ((gap, [(0, 3)]), (gap - 1, [(0, 0), (2, 3)])):
        monkeypatch.setattr(shard_reader, "GAP_BYTES", limit)
        assert_reads(ShardReader(str(folder), index_of(entries)), [3, 0, 2])
        ranges = [(entries[a].shard, entries[a].offset, entries[b].offset + entries[b].size) for a, b in parts]
        assert sorted(reads) == ranges
        reads.clear()


def test_each_shard_is_read_once(tmp_path, reads):
    entries = write(tmp_path, [f"t{number}" for number in range(9)], max_bytes=3_000)
    assert_reads(ShardReader(str(tmp_path), index_of(entries)), [8, 0, 4, 1, 7, 2, 6, 3, 5])
    shards = {entry.shard for entry in entries}
    assert len(shards) > 2 and sorted(shard for shard, _, _ in reads) == sorted(shards)


def test_what_is_remembered_is_not_read_again(shard, reads):
    folder, entries = shard
    reader = ShardReader(str(folder), index_of(entries))
    assert_reads(reader, [1, 2])
    reads.clear()
    assert_reads(reader, [2, 1, 2])
    assert reads == []
    assert_reads(reader, [0, 2, 1])
    assert reads == [(entries[0].shard, entries[0].offset, entries[0].offset + entries[0].size)]


@pytest.mark.parametrize("room", [0, mel(0).nbytes - 1])
def test_a_song_beyond_the_room_is_read_each_time(shard, reads, room):
    folder, entries = shard
    reader = ShardReader(str(folder), index_of(entries), cache_bytes=room)
    for count in (1, 2, 3):
        assert_reads(reader, [0])
        assert len(reads) == count


def test_the_song_not_asked_for_the_longest_is_forgotten(shard, reads):
    folder, entries = shard
    room = mel(1).nbytes + mel(2).nbytes
    reader = ShardReader(str(folder), index_of(entries), cache_bytes=room)
    for rows, missing in (([1], [1]), ([2], [2]), ([1], []), ([0], [0]), ([1], []), ([0], []), ([2], [2]), ([1], [1])):
        assert_reads(reader, rows)
        assert [start for _, start, _ in reads] == [entries[row].offset for row in missing]
        reads.clear()


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 7), max_size=6), max_size=8), st.integers(0, 700))
def test_no_more_than_the_room_is_remembered(one_song_shards, requests, room):
    folder, entries = one_song_shards
    reader = ShardReader(str(folder), index_of(entries), cache_bytes=room)
    with pytest.MonkeyPatch.context() as patch:
        calls = count_reads(patch)
        for rows in [*requests, list(range(8))]:
            calls.clear()
            assert_reads(reader, rows)
            shards = [shard for shard, _, _ in calls]
            assert len(shards) == len(set(shards)) and set(shards) <= {entries[row].shard for row in rows}
            assert sum(mel(row).nbytes for row in set(rows) if entries[row].shard not in shards) <= room


def test_damaged_bytes_name_shard_and_track(shard):
    folder, entries = shard
    path = folder / entries[2].shard
    data = bytearray(path.read_bytes())
    data[entries[2].offset + entries[2].size - 3] ^= 1
    path.write_bytes(data)
    reader = ShardReader(str(folder), index_of(entries))
    assert len(reader.read(np.array([0, 1, 3]))) == 3
    for _ in range(2):
        with pytest.raises(HTCLError, match=f"{entries[2].shard}: the bytes of c are damaged; delete the shard"):
            reader.read(np.array([3, 2]))


@pytest.mark.parametrize("kept", [0, 0.5])
def test_cut_off_shards_are_damage(shard, kept):
    folder, entries = shard
    path = folder / entries[3].shard
    path.write_bytes(path.read_bytes()[: int(entries[3].offset + kept * entries[3].size)])
    with pytest.raises(HTCLError, match="the bytes of d are damaged"):
        ShardReader(str(folder), index_of(entries)).read(np.array([3]))


def test_lost_shards_are_an_error_with_a_way_out(shard):
    folder, entries = shard
    (folder / entries[0].shard).unlink()
    with pytest.raises(HTCLError, match=r"lacks a shard of its index .*htcl-.*delete the folder"):
        ShardReader(str(folder), index_of(entries)).read(np.array([0]))


def payload(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


PAYLOAD = payload(mel(0))


@settings(max_examples=300)
@given(st.integers(0, len(PAYLOAD) - 1), st.integers(0, 255))
@example(PAYLOAD.index(b"<f2"), ord(">"))  # the same bytes, read the other way round
@example(PAYLOAD.index(b"f2"), ord("i"))
@example(PAYLOAD.index(b"{"), ord("("))
def test_any_damaged_byte_is_an_error_or_does_no_harm(place, value):
    damaged = bytearray(PAYLOAD)
    damaged[place] = value
    entry = {"track_id": "a", "shard": "htcl-1.tar", "content_hash": mel_hash(mel(0))}
    try:
        found = decode_mel(bytes(damaged), entry)
    except HTCLError as error:
        assert "htcl-1.tar" in str(error) and "of a are damaged" in str(error)
    else:
        np.testing.assert_array_equal(found, mel(0))
        assert found.dtype == np.float16


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
def test_decoding_does_without_the_python_parser_that_threads_upset(layout, monkeypatch):
    monkeypatch.setattr("ast.literal_eval", None)
    entry = {"track_id": "a", "shard": "htcl-1.tar", "content_hash": mel_hash(mel(0))}
    np.testing.assert_array_equal(decode_mel(payload(layout(mel(0))), entry), mel(0))


def test_equal_audio_has_equal_hashes_whatever_its_layout():
    assert mel_hash(mel(3)) == mel_hash(np.asfortranarray(mel(3))) != mel_hash(mel(4))


def test_index_is_sorted_and_mapped(tmp_path, shard):
    _, entries = shard
    write_index(index_of(entries[::-1]), tmp_path)
    index = read_index(tmp_path)
    assert index["track_id"].to_pylist() == ["a", "b", "c", "d"]
    assert index["offset"].to_pylist() == [entry.offset for entry in entries]
    assert rows_of(index, pa.array(["d", "nothing", "a"])).tolist() == [3, -1, 0]
    assert rows_of(index, pa.chunked_array([["b"], ["c", "b"]])).tolist() == [1, 2, 1]


def test_shards_in_object_storage_read_like_local_ones():
    folder = f"memory://{Path(__file__).stem}"
    entries = write(folder, ["a", "b"])
    found = ShardReader(folder, index_of(entries)).read(np.array([1, 0]))
    np.testing.assert_array_equal(found[0], mel(1))
    np.testing.assert_array_equal(found[1], mel(0))
