"""Small shards are copied together, once, and no byte changes on the way."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.errors import HTCLError
from htcl.schemas import SHARDS
from htcl.shards.blocks import RESULTS, pack, unpack
from htcl.shards.compaction import groups_to_copy, moved
from htcl.shards.reader import ShardReader
from htcl.shards.tasks import copy_songs
from htcl.shards.writer import ShardWriter

MAX_BYTES = 60_000


def write(folder: Path, *shards: dict[str, int]) -> list[dict]:
    """Index rows of shards, each given as track -> frames."""
    rows = []
    for tracks in shards:
        writer = ShardWriter(str(folder), 10**9)
        for track, frames in tracks.items():
            rng = np.random.default_rng(sum(track.encode()))
            writer.add(track, rng.normal(size=(frames, 8)).astype(np.float16))
        rest = {"file_hash": "", "source_tag": "", "split": "train"}
        rows += [asdict(entry) | {"split_group": entry.track_id, **rest} for entry in writer.close()]
    return rows


def compact(folder: Path, index: pa.Table) -> tuple[pa.Table, list[pa.Table]]:
    groups = groups_to_copy(index, {path.name: path.stat().st_size for path in folder.iterdir()}, MAX_BYTES)
    places = unpack([copy_songs(pack(group), str(folder)) for group in groups], RESULTS)
    return moved(index, groups, places), groups


def check_bytes(folder: Path, before: pa.Table, after: pa.Table) -> None:
    """Every row has the bytes of its hash, and is the row that it was but for its place."""
    ShardReader(str(folder), after).read(np.arange(len(after)))
    others = [name for name in SHARDS.names if name not in ("shard", "offset")]
    assert after.schema == before.schema == SHARDS
    assert after.select(others) == before.select(others)


def test_small_shards_become_one(tmp_path: Path) -> None:
    rows = write(tmp_path, {"b": 100, "a": 50}, {"c": 70}, {"full": 2500})
    index = pa.Table.from_pylist([rows[3], *rows[:3]], SHARDS)
    after, groups = compact(tmp_path, index)
    assert sorted(groups[0]["track_id"].to_pylist()) == ["a", "b", "c"]
    assert len(groups) == 1 and len(set(after["shard"].to_pylist())) == 2
    assert after["shard"][0] == index["shard"][0]
    check_bytes(tmp_path, index, after)
    assert compact(tmp_path, after) == (after, [])


def test_one_small_shard_stays_unless_most_of_it_is_dead(tmp_path: Path) -> None:
    rows = write(tmp_path, {f"t{number}": 100 for number in range(12)})
    half, few = (pa.Table.from_pylist(rows[:count], SHARDS) for count in (7, 2))
    assert compact(tmp_path, half) == (half, [])
    after, groups = compact(tmp_path, few)
    assert len(groups) == 1
    check_bytes(tmp_path, few, after)
    assert compact(tmp_path, after) == (after, [])


def test_what_shares_its_bytes_is_copied_once_and_goes_on_sharing_them(tmp_path: Path) -> None:
    rows = write(tmp_path, {"a": 50}, {"b": 60})
    index = pa.Table.from_pylist([*rows, rows[0] | {"track_id": "A"}], SHARDS)
    after, groups = compact(tmp_path, index)
    assert sum(len(group) for group in groups) == 2
    assert after["offset"][0] == after["offset"][2]
    check_bytes(tmp_path, index, after)


def test_damaged_bytes_are_not_copied(tmp_path: Path) -> None:
    rows = write(tmp_path, {"a": 50}, {"b": 60})
    index = pa.Table.from_pylist([rows[0] | {"content_hash": "0"}, rows[1]], SHARDS)
    with pytest.raises(HTCLError, match="the bytes of a are damaged"):
        compact(tmp_path, index)


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(1, 1500), min_size=1, max_size=8), min_size=1, max_size=6), st.data())
def test_a_second_time_finds_nothing_to_do(tmp_path_factory: pytest.TempPathFactory, shards, data) -> None:
    folder = tmp_path_factory.mktemp("shards")
    tracks = [{f"t{n}-{m}": frames for m, frames in enumerate(lengths)} for n, lengths in enumerate(shards)]
    rows = write(folder, *tracks)
    used = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, unique=True))
    index = pa.Table.from_pylist([rows[n] for n in used], SHARDS)
    after, _ = compact(folder, index)
    check_bytes(folder, index, after)
    assert compact(folder, after) == (after, [])
