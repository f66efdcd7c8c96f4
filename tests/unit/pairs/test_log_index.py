"""The file index: what was counted from which state of the log, and which days have to be counted again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.config import PipelineConfig
from htcl.pairs.log_index import (
    FILES,
    LogFile,
    counted_files,
    counting_settings,
    merge_files,
    save_files,
    stale_days,
)
from htcl.pairs.store import pair_table


def file(path, tag="1", days=()):
    return LogFile(path, tag, None if days is None else frozenset(days))


def index(*files):
    return {found.path: found for found in files}


def test_an_index_is_read_from_the_commit_that_names_it(tmp_path):
    workspace = str(tmp_path)
    table = pair_table(workspace)
    assert counted_files(table.properties(), workspace) == {}
    first = [file("dt=1/a.csv", days=[1, -2]), file("b.csv", "2", [])]
    second = [*first, file("ä b.csv", days=[3])]
    table.commit([], True, properties={FILES: save_files(workspace, first)})
    table.commit([], True, properties={FILES: save_files(workspace, second)})
    assert counted_files(table.properties(), workspace) == index(*second)
    assert counted_files(table.properties(0), workspace) == index(*first)
    table.commit([], True)
    assert counted_files(table.properties(), workspace) == {}


def test_the_name_of_an_index_is_that_of_its_content_in_any_order(tmp_path):
    files = [file("a", days=[2, 1]), file("b", days=[3])]
    name = save_files(str(tmp_path), files)
    assert save_files(str(tmp_path), reversed(files)) == name
    for other in ([file("a", days=[2]), files[1]], [file("a", "2", [1, 2]), files[1]], files[:1]):
        assert save_files(str(tmp_path), other) != name
    assert len(list((tmp_path / "tables" / "log_files").iterdir())) == 4


@pytest.mark.parametrize(
    ("now", "stale"),
    [
        ([file("a", days=[1, 2])], set()),
        ([], set()),
        ([file("a", days=[1, 2]), file("b", days=[4])], {4}),
        ([file("a", "2", [2, 3])], {1, 2, 3}),
        ([file("a", "2", [])], {1, 2}),
    ],
    ids=["as it was", "gone", "new", "changed", "emptied"],
)
def test_days_of_new_and_changed_files_are_stale_as_they_were_and_as_they_are(now, stale):
    assert stale_days(index(file("a", days=[1, 2])), now) == stale


@pytest.mark.parametrize(
    ("days", "tag"),
    [(None, "2"), ({1, 2, 3}, "2"), ({1, 2, 3, 4}, "2"), ({2, 3}, "1"), ({1, 2}, "1"), (set(), "1")],
)
def test_a_file_is_up_to_date_when_all_its_days_of_then_and_now_were_counted(days, tag):
    before, now = file("a", "1", [1, 2]), file("a", "2", [2, 3])
    (found,) = merge_files(index(before), [now], None if days is None else frozenset(days))
    assert found == {"1": before, "2": now}[tag]


def test_a_file_that_was_never_counted_whole_stays_unknown():
    assert merge_files({}, [file("a", days=[1, 2])], frozenset([1])) == []
    assert merge_files({}, [file("a", days=[1])], frozenset([1])) == [file("a", days=[1])]


@pytest.mark.parametrize(("days", "kept", "stays"), [({1}, (), True), ({1, 2}, {2}, True), ({1, 2}, (), False)])
def test_a_file_that_is_gone_stays_as_long_as_the_counts_of_one_of_its_days(days, kept, stays):
    gone = file("gone", days=[1, 2])
    found = merge_files(index(gone), [file("a", days=[1, 2])], frozenset(days), frozenset(kept))
    assert (gone in found) == stays


def test_a_file_without_a_day_is_up_to_date_once_it_was_read():
    empty = file("a", "2")
    for before in ([], [file("a", "1", [1])]):
        assert merge_files(index(*before), [empty], frozenset([1])) == before
        assert merge_files(index(*before), [empty], frozenset([1]), dateless=["a"]) == [empty]


LOG = st.dictionaries(
    st.sampled_from("abcd"), st.tuples(st.sampled_from("12"), st.frozensets(st.integers(0, 5), max_size=3)), max_size=4
)


@settings(max_examples=80)
@given(LOG, LOG, st.lists(st.frozensets(st.integers(0, 5)), max_size=4))
def test_whatever_was_backfilled_counting_what_is_stale_leaves_nothing_stale(before, after, ranges):
    now = [file(path, tag, days) for path, (tag, days) in after.items()]
    counted = index(*(file(path, tag, days) for path, (tag, days) in before.items()))
    for days in ranges:
        missing = stale_days(counted, now) - days
        counted = index(*merge_files(counted, now, days))
        # A backfill makes nothing forgotten that it did not count.
        assert missing <= stale_days(counted, now)
    dateless = [found.path for found in now if not found.days]
    counted = index(*merge_files(counted, now, stale_days(counted, now), dateless=dateless))
    assert stale_days(counted, now) == frozenset()


def config(**sections):
    interactions = {"path": "log", **sections.pop("interactions", {})}
    return PipelineConfig(workspace="w", catalog={"path": "c"}, interactions=interactions, **sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"pairs": {"max_basket_size": 7}},
        {"pairs": {"lookback_days": 1}},
        {"pairs": {"session_gap_minutes": 5}},
        {"pairs": {"heavy_user_percentile": 99}},
        {"pairs": {"symmetric_sources": []}},
        {"interactions": {"positive": {"like": {}}}},
        {"interactions": {"negative": {"skip": {}}}},
        {"interactions": {"timezone": "Asia/Tokyo"}},
        {"interactions": {"columns": {"track_id": "song"}}},
    ],
    ids=str,
)
def test_counts_hang_on_how_events_are_read_and_baskets_are_made(sections):
    assert counting_settings(config(**sections)) != counting_settings(config())


@pytest.mark.parametrize(
    "sections",
    [
        {"pairs": {"min_users": 1, "half_life_days": 3, "score": "npmi", "top_k": 2, "window_days": 5, "buckets": 4}},
        {"pairs": {"symmetric_sources": ["copreference", "triggered"]}},
        {"interactions": {"path": "moved", "format": "csv", "max_reject_share": 1}},
    ],
    ids=str,
)
def test_counts_do_not_hang_on_what_the_snapshot_makes_of_them(sections):
    assert counting_settings(config(**sections)) == counting_settings(config())
