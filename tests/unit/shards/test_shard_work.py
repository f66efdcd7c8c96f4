"""The catalog held against the index and against what was refused before."""

from __future__ import annotations

import pyarrow as pa
import pytest

from htcl.audio.isolated import Limits
from htcl.config import AudioConfig
from htcl.ingest.catalog import CHECKED_CATALOG
from htcl.schemas import REFUSED_AUDIO, SHARDS
from htcl.shards.blocks import RESULTS, TRACK, unpack
from htcl.shards.work import Work, find_work, lasting, refused_rows, reused_rows, tagged, task_groups

LIMITS = Limits(60, 1024)
FILES = {"a.wav": (1, "x"), "b.wav": (2, "x")}


def catalog_of(*tracks: str, seconds: float | None = 9.0) -> pa.Table:
    rows = [
        {"track_id": t, "title": t, "tags": [], "audio_path": f"{t}.wav", "duration_s": seconds, "split_group": "g"}
        for t in tracks
    ]
    return pa.Table.from_pylist([row | {"split": "train"} for row in rows], CHECKED_CATALOG)


def index_of(catalog: pa.Table, shard: str = "s") -> pa.Table:
    """The index that a run over a tagged catalog leaves."""
    rest = {"shard": shard, "offset": 0, "size": 1, "frames": 95, "split_group": "old", "split": "test"}
    rows = [
        {"track_id": r["track_id"], "source_tag": r["source_tag"], "content_hash": "c", "file_hash": "f", **rest}
        for r in catalog.to_pylist()
    ]
    return pa.Table.from_pylist(rows, SHARDS)


def work_of(catalog: pa.Table, index: pa.Table | None = None, refused: pa.Table | None = None, **more) -> Work:
    index = SHARDS.empty_table() if index is None else index
    refused = REFUSED_AUDIO.empty_table() if refused is None else refused
    return find_work(catalog, index, refused, more.get("shards", ["s"]), more.get("limits", LIMITS))


def tracks_of(rows: pa.Table) -> list[str]:
    return sorted(rows["track_id"].to_pylist())


def test_what_stands_as_it_was_is_kept_with_the_group_of_today() -> None:
    catalog = tagged(catalog_of("a", "b"), FILES, "s")
    work = work_of(catalog, index_of(catalog.slice(0, 1)))
    assert (tracks_of(work.kept), tracks_of(work.todo)) == (["a"], ["b"])
    assert (work.kept["split_group"][0].as_py(), work.kept["split"][0].as_py()) == ("g", "train")


@pytest.mark.parametrize(
    "changed",
    [
        tagged(catalog_of("a"), {"a.wav": (1, "y")}, "s"),
        tagged(catalog_of("a"), {"a.wav": (3, "x")}, "s"),
        tagged(catalog_of("a"), {}, "s"),
        tagged(catalog_of("a"), FILES, "other settings"),
        tagged(catalog_of("a", seconds=10.0), FILES, "s"),
    ],
)
def test_what_changed_is_looked_at(changed: pa.Table) -> None:
    before = tagged(catalog_of("a"), FILES, "s")
    assert tracks_of(work_of(before, index_of(before)).todo) == []
    assert tracks_of(work_of(changed, index_of(before)).todo) == ["a"]


def test_what_two_runs_at_once_have_added_counts_once() -> None:
    catalog = tagged(catalog_of("a", "b", "c"), FILES, "s")
    rows, refused = index_of(catalog.slice(0, 1)), refused_rows(results_of("silent", "b"), catalog, LIMITS)
    work = work_of(catalog, pa.concat_tables([rows, rows]), pa.concat_tables([refused, refused]))
    assert (tracks_of(work.kept), tracks_of(work.refused), tracks_of(work.todo)) == (["a"], ["b"], ["c"])
    assert work.kept.schema == SHARDS and work.refused.schema == REFUSED_AUDIO


def test_rows_whose_shard_is_gone_are_neither_kept_nor_reused() -> None:
    catalog = tagged(catalog_of("a"), FILES, "s")
    work = work_of(catalog, index_of(catalog, "lost"))
    assert (len(work.kept), len(work.known), tracks_of(work.todo)) == (0, 0, ["a"])


def results_of(reason: str, track: str = "a") -> pa.Table:
    return pa.Table.from_pylist([{"track_id": track, "reason": reason, "detail": f"{track}.wav: seen"}], RESULTS)


@pytest.mark.parametrize("reason", ["silent", "time_limit", "memory_limit"])
def test_what_was_refused_is_not_opened_again_before_file_or_limit_change(reason: str) -> None:
    catalog = tagged(catalog_of("a", "b"), FILES, "s")
    refused = lasting(refused_rows(results_of(reason), catalog, LIMITS))
    assert tracks_of(work_of(catalog, refused=refused).todo) == ["b"]
    assert tracks_of(work_of(tagged(catalog_of("a"), {}, "s"), refused=refused).todo) == ["a"]
    again = work_of(catalog, refused=refused, limits=Limits(120, 1024))
    assert tracks_of(again.todo) == (["b"] if reason == "silent" else ["a", "b"])


@pytest.mark.parametrize("reason", ["missing_file", "unreadable", "decoder_crash"])
def test_what_may_pass_by_itself_is_not_remembered(reason: str) -> None:
    catalog = tagged(catalog_of("a"), FILES, "s")
    assert len(lasting(refused_rows(results_of(reason), catalog, LIMITS))) == 0


def test_known_bytes_are_reused_by_whoever_has_them() -> None:
    before = tagged(catalog_of("a", "b"), FILES, "s")
    todo = tagged(catalog_of("c", "d"), {}, "s")
    hashes = pa.table({"track_id": ["c", "d"], "file_hash": ["f", "new"]})
    rows = reused_rows(index_of(before), hashes, todo, AudioConfig()).to_pylist()
    assert [(row["track_id"], row["content_hash"], row["split_group"]) for row in rows] == [("c", "c", "g")]
    assert rows[0]["source_tag"] == todo["source_tag"][0].as_py()


@pytest.mark.parametrize(
    ("seconds", "max_seconds", "reused"), [(None, 120, True), (11, 120, True), (12, 120, False), (300, 10, True)]
)
def test_a_file_that_the_catalog_says_is_cut_is_not_reused_unjudged(
    seconds: float | None, max_seconds: int, reused: bool
) -> None:
    known = index_of(tagged(catalog_of("a"), FILES, "s"))  # 95 frames, 9.1 seconds
    hashes = pa.table({"track_id": ["b"], "file_hash": ["f"]})
    todo = tagged(catalog_of("b", seconds=seconds), {}, "s")
    rows = reused_rows(known, hashes, todo, AudioConfig(max_seconds=max_seconds))
    assert tracks_of(rows) == (["b"] if reused else [])


@pytest.mark.parametrize(("songs", "per_shard", "tasks"), [(0, 800, 0), (5, 800, 1), (100, 800, 6), (2000, 100, 20)])
def test_every_track_is_in_one_task(songs: int, per_shard: int, tasks: int) -> None:
    catalog = catalog_of(*(f"t{number}" for number in range(songs)))
    groups = task_groups(catalog, 2, per_shard)
    assert len(groups) == tasks
    assert tracks_of(unpack(groups, TRACK)) == tracks_of(catalog)
