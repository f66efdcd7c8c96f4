"""Any days backfilled in any order give what counting the whole log anew gives, row for row; older versions stay."""

from __future__ import annotations

import datetime as dt
import json
import threading

import pyarrow.dataset as ds
import pytest
from daily_counts import bring_up_to_date
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mine_pairs import day_range, publish_snapshot, step_of_version

from htcl.artifacts import ArtifactStore, Recipe
from htcl.errors import HTCLError
from htcl.pairs import PAIRS_FOLDER
from htcl.pairs.quality import quality_table
from htcl.pairs.store import pair_table
from htcl.plan import Step
from htcl.schemas import REJECTS
from htcl.tables import GrowingTable

FIRST = dt.date(2025, 3, 1)
DAYS = 4

EVENT = st.fixed_dictionaries(
    {
        "ts": st.integers(0, DAYS * 48 - 1).map(
            lambda half: f"{dt.datetime(2025, 3, 1) + half * dt.timedelta(minutes=30)}Z"
        ),
        "user_id": st.sampled_from(["ana", "ben", None]),
        "track_id": st.sampled_from("abcd"),
        "event_type": st.sampled_from(["like", "skip"]),
        "session_id": st.sampled_from([None, "s"]),
        "trigger_track_id": st.sampled_from([None, None, "a", "b"]),
        "event_id": st.sampled_from([None, None, "e1", "e2"]),
    }
)
FILES = st.lists(st.lists(EVENT, min_size=1, max_size=12), min_size=DAYS, max_size=DAYS)
"""A file for each day, whose events may lie on any day: late ones, and clocks that are wrong."""


def write(folder, files):
    """Write the files whose content differs from what lies there."""
    for number, events in enumerate(files):
        path = folder / f"dt={FIRST + dt.timedelta(days=number)}" / "log.jsonl"
        text = "".join(json.dumps(event) + "\n" for event in events)
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def config_of(configured, folder, name, lookback=0, **pairs):
    rules = {"positive": {"like": {}}, "negative": {"skip": {}}, "max_reject_share": 1}
    return configured(
        workspace=str(folder / name),
        interactions={"path": str(folder / "log"), **rules},
        pairs={"lookback_days": lookback, "max_basket_size": 3, **pairs},
        split={"warm_test_share": 0},
    )


def everything(config):
    """All rows of the three tables, sorted."""
    tables = (
        pair_table(config.workspace),
        quality_table(config.workspace),
        GrowingTable(config.workspace, "rejects", REJECTS, partition_by="source"),
    )
    return [sorted(map(repr, table.read().to_pylist())) for table in tables]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), before=FILES, after=FILES, lookback=st.sampled_from([0, 2]))
def test_backfills_in_any_order_equal_a_full_count(spark, configured, tmp_path_factory, data, before, after, lookback):
    folder = tmp_path_factory.mktemp("backfill")
    like = {**before[0][0], "event_type": "like", "user_id": "ana"}
    before[0].append(like)
    after[0].append(like)
    (folder / "workspace" / "secrets").mkdir(parents=True)
    (folder / "anew" / "secrets").mkdir(parents=True)
    for name in ("workspace", "anew"):
        (folder / name / "secrets" / "user.key").write_text("k")
    config = config_of(configured, folder, "workspace", lookback)
    write(folder / "log", before)
    bring_up_to_date(spark, config, None)
    write(folder / "log", after)
    ranges = data.draw(st.permutations([(0, 0), (1, 2), (3, 3), (2, 3)]))
    for first, last in ranges:
        days = [str(FIRST + dt.timedelta(days=n)) for n in (first, last)]
        bring_up_to_date(spark, config, day_range(*days))
    anew = config_of(configured, folder, "anew", lookback)
    bring_up_to_date(spark, anew, None)
    assert everything(config) == everything(anew)


def test_the_next_run_counts_what_no_backfill_has(spark, configured, tmp_path):
    like = {"user_id": "ana", "event_type": "like"}
    files = [[{**like, "ts": f"2025-03-0{day}T10:00:00Z", "track_id": track} for track in "ab"] for day in (1, 2, 3)]
    config = config_of(configured, tmp_path, "workspace")
    write(tmp_path / "log", files)
    bring_up_to_date(spark, config, None)
    before = {part.path for part in pair_table(config.workspace).parts() if part.partition == "2025-03-01"}
    # A new song today, and an event that arrives two days late, in the file of today.
    files[2] += [{**like, "ts": "2025-03-03T11:00:00Z", "track_id": "c"}]
    files[2] += [{**like, "ts": "2025-03-02T10:01:00Z", "track_id": "d"}]
    write(tmp_path / "log", files)
    bring_up_to_date(spark, config, day_range("2025-03-03", None))
    songs = {(row["dt"], row["anchor_id"]) for row in pair_table(config.workspace).read().to_pylist()}
    assert ("2025-03-03", "c") in songs and ("2025-03-02", "d") not in songs
    bring_up_to_date(spark, config, None)
    songs = {(row["dt"], row["anchor_id"]) for row in pair_table(config.workspace).read().to_pylist()}
    assert ("2025-03-02", "d") in songs
    # A day that nothing happened to was not touched.
    assert {p.path for p in pair_table(config.workspace).parts() if p.partition == "2025-03-01"} == before


def test_a_commit_replaces_exactly_the_days_that_the_range_can_change(spark, configured, tmp_path):
    like = {"user_id": "ana", "event_type": "like"}
    files = [[{**like, "ts": f"2025-03-0{day}T10:00:00Z", "track_id": track} for track in "ab"] for day in (1, 2, 3, 4)]
    config = config_of(configured, tmp_path, "workspace", lookback=1)
    write(tmp_path / "log", files)
    version = bring_up_to_date(spark, config, None)
    table = pair_table(config.workspace)
    before = {part.path: part.partition for part in table.parts()}
    assert bring_up_to_date(spark, config, day_range("2025-03-02", None)) == version + 1  # one commit
    after = {part.path: part.partition for part in table.parts()}
    assert {before[path] for path in before.keys() - after.keys()} == {"2025-03-02", "2025-03-03"}
    assert {after[path] for path in after.keys() - before.keys()} == {"2025-03-02", "2025-03-03"}
    # The same range again gives the same rows, and the version before can still be read.
    rows = sorted(map(repr, table.read().to_pylist()))
    bring_up_to_date(spark, config, day_range("2025-03-02", None))
    assert sorted(map(repr, table.read().to_pylist())) == rows == sorted(map(repr, table.read(version).to_pylist()))


def test_a_snapshot_can_be_rebuilt_as_of_an_earlier_version(spark, configured, make_songs, tmp_path):
    like = {"user_id": "ana", "event_type": "like"}
    files = [[{**like, "ts": f"2025-03-0{day}T10:00:00Z", "track_id": track} for track in "ab"] for day in (1, 2)]
    config = config_of(configured, tmp_path, "workspace", min_users=1, min_lift=0)
    inputs = make_songs(tmp_path / "workspace", dict.fromkeys("abc", "train"))
    store = ArtifactStore(config.workspace)

    def published(log, version=None):
        """The pairs of a run that sees this log, or of an earlier version."""
        step = Step("pairs", Recipe("pairs", 1, {}, {**inputs, "log_input": log}), False, "")
        if version is not None:
            step = step_of_version(config, step, version)
        now = version if version is not None else bring_up_to_date(spark, config, None)
        publish_snapshot(spark, config, step, now)
        manifest = store.manifest("pairs", step.key)
        rows = ds.dataset(store.fetch("pairs", step.key) / PAIRS_FOLDER, format="parquet").to_table().to_pylist()
        return sorted(map(repr, rows)), manifest["tables"]["pair_counts"], step.key

    write(tmp_path / "log", files)
    before, first, key = published("two days")
    files.append([{**like, "ts": "2025-03-03T10:00:00Z", "track_id": track} for track in "abc"])
    write(tmp_path / "log", files)
    after, second, _ = published("three days")
    assert second > first and after != before
    again, version, other = published("three days", version=first)
    assert again == before and version == first
    assert other != key  # an artifact of its own, which no run takes for the newest log
    with pytest.raises(HTCLError, match="table pair_counts has no version 99"):
        published("three days", version=99)


def test_two_backfills_at_once_end_in_one_result_or_one_clear_conflict(spark, configured, tmp_path):
    like = {"user_id": "ana", "event_type": "like"}
    files = [[{**like, "ts": f"2025-03-0{day}T10:00:00Z", "track_id": track} for track in "ab"] for day in (1, 2, 3, 4)]
    config = config_of(configured, tmp_path, "workspace")
    write(tmp_path / "log", files)
    bring_up_to_date(spark, config, None)
    rows = everything(config)
    for ranges, conflict in (
        ((("2025-03-01", "2025-03-02"), ("2025-03-02", "2025-03-03")), True),
        ((("2025-03-01", "2025-03-02"), ("2025-03-03", "2025-03-04")), False),
    ):
        errors = at_once(spark, config, ranges)
        assert all("another run has changed it meanwhile" in str(error) for error in errors)
        assert all(isinstance(error, HTCLError) for error in errors)
        assert len(errors) <= (1 if conflict else 0), errors
        assert everything(config) == rows


def at_once(spark, config, ranges):
    """Errors of backfills that run side by side."""
    errors = []
    barrier = threading.Barrier(len(ranges), timeout=300)

    def run(days):
        barrier.wait()
        try:
            bring_up_to_date(spark, config, day_range(*days))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(days,)) for days in ranges]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2025-03-31", "2025-03-01", "--start 2025-03-31 lies after --end 2025-03-01"),
        ("yesterday", None, "--start and --end are days such as 2025-03-31"),
    ],
)
def test_a_range_that_is_none_is_one_sentence(start, end, message):
    with pytest.raises(HTCLError, match=message):
        day_range(start, end)
