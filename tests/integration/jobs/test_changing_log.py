"""A log that changes as logs do: files without a time, late ones, replaced, deleted; another key; two runs at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from daily_counts import bring_up_to_date
from mine_pairs import day_range

from htcl.errors import HTCLError
from htcl.pairs.quality import quality_table
from htcl.pairs.store import pair_table
from htcl.plan import raw_inputs
from htcl.schemas import REJECTS
from htcl.tables import GrowingTable
from htcl.users import KEY_VARIABLE

DAYS = ("2025-03-01", "2025-03-02", "2025-03-03")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A log of three days, a file each, in which each of three users likes two songs."""
    monkeypatch.setenv(KEY_VARIABLE, "k")
    for day in DAYS:
        write(tmp_path / "log" / f"{day}.jsonl", likes(day, "ab"))
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "catalog.jsonl").write_text("{}")
    return tmp_path


@pytest.fixture
def config(configured, folder):
    def of(lookback=0, **interactions):
        return configured(
            workspace=str(folder / "workspace"),
            catalog={"path": str(folder / "songs" / "catalog.jsonl")},
            interactions={"path": str(folder / "log"), **interactions},
            pairs={"lookback_days": lookback},
        )

    return of


def likes(day, songs, users=("ana", "ben", "cem"), hour=10):
    like = {"event_type": "like", "session_id": "s"}
    return [{**like, "ts": f"{day}T{hour}:00:00Z", "user_id": u, "track_id": t} for u in users for t in songs]


def write(path: Path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def songs(config):
    """(day, song) -> baskets."""
    rows = pair_table(config.workspace).read().to_pylist()
    return {(row["dt"], row["anchor_id"]): row["n_baskets"] for row in rows if row["source"] == "item"}


def rejects(config):
    rows = GrowingTable(config.workspace, "rejects", REJECTS, partition_by="source").read().to_pylist()
    return {(row["key"], row["reason"], row["dt"]): row["n_rows"] for row in rows}


def undated(rows):
    return [{**row, "ts": "02/03/2025 10:00"} for row in rows]


@pytest.mark.parametrize("name", ["new.jsonl", "2025-03-02.jsonl"], ids=["new", "rewritten"])
def test_a_file_without_a_readable_time_is_refused_and_changes_nothing(spark, config, folder, name):
    bring_up_to_date(spark, config(), None)
    before = songs(config())
    write(folder / "log" / name, undated(likes(DAYS[0], "ab")))
    with pytest.raises(HTCLError, match=r"interactions: 6 of .* rejected .*bad_ts 6"):
        bring_up_to_date(spark, config(), None)
    assert songs(config()) == before
    lax = config(max_reject_share=1)
    version = bring_up_to_date(spark, lax, None)
    assert rejects(lax) == {(name, "bad_ts", None): 6}
    # It is known now, until it changes.
    assert bring_up_to_date(spark, lax, None) == version


def test_a_backfill_of_a_day_leaves_a_file_without_a_time_to_the_next_run(spark, config, folder):
    lax = config(max_reject_share=1)
    bring_up_to_date(spark, lax, None)
    write(folder / "log" / "new.jsonl", undated(likes(DAYS[0], "ab")))
    bring_up_to_date(spark, lax, day_range(DAYS[0], None))
    assert rejects(lax) == {}
    bring_up_to_date(spark, lax, None)
    assert rejects(lax) == {("new.jsonl", "bad_ts", None): 6}


def test_bad_times_of_a_file_of_many_days_are_not_held_against_one_of_them(spark, config, folder):
    events = [row for day in DAYS for row in likes(day, "abcdef", hour=12)]
    write(folder / "log" / "month.jsonl", [*events, *undated(events[:3])])
    bring_up_to_date(spark, config(), None)
    before = songs(config())
    bring_up_to_date(spark, config(), day_range(DAYS[0], None))
    assert songs(config()) == before


@pytest.mark.parametrize("lookback", [0, 1])
def test_a_late_event_of_a_day_whose_log_is_gone_is_refused_and_the_day_stays(spark, config, folder, lookback, caplog):
    here = config(lookback)
    bring_up_to_date(spark, here, None)
    before = songs(here)
    (folder / "log" / f"{DAYS[0]}.jsonl").unlink()
    write(folder / "log" / "late.jsonl", likes(DAYS[0], "c", ["dan"]) + likes(DAYS[2], "c", ["dan"]))
    version = bring_up_to_date(spark, here, None)
    assert songs(here) == {**before, (DAYS[2], "c"): 1}
    assert rejects(here) == {("late.jsonl", "log_gone", DAYS[0]): 1}
    named = DAYS[0] if lookback == 0 else f"{DAYS[0]}, {DAYS[1]}"
    assert f"{named} stay as they were counted" in caplog.text
    assert bring_up_to_date(spark, here, None) == version
    # Who asks for the day gets what there is.
    if lookback == 0:
        bring_up_to_date(spark, here, day_range(DAYS[0], None))
        assert (DAYS[0], "c") in songs(here) and (DAYS[0], "a") not in songs(here)


def test_a_day_that_is_asked_for_but_has_no_log_any_more_is_an_error(spark, config, folder):
    bring_up_to_date(spark, config(), None)
    before = songs(config())
    (folder / "log" / f"{DAYS[1]}.jsonl").unlink()
    with pytest.raises(HTCLError, match=f"the log of {DAYS[1]} is gone, so that {DAYS[1]} cannot be counted again"):
        bring_up_to_date(spark, config(), day_range(DAYS[1], DAYS[2]))
    assert songs(config()) == before


def test_a_file_that_is_replaced_by_others_is_counted_out_of_them(spark, config, folder):
    bring_up_to_date(spark, config(), None)
    (folder / "log" / f"{DAYS[1]}.jsonl").rename(folder / "log" / "compacted.jsonl")
    write(folder / "log" / "late.jsonl", likes(DAYS[1], "c", ["dan"]))
    bring_up_to_date(spark, config(), None)
    assert songs(config())[DAYS[1], "a"] == 3 and songs(config())[DAYS[1], "c"] == 1
    # The file that is gone is forgotten: a late event does not meet it again.
    write(folder / "log" / "late.jsonl", likes(DAYS[1], "d", ["dan"]))
    bring_up_to_date(spark, config(), None)
    assert (DAYS[1], "d") in songs(config()) and rejects(config()) == {}


def test_other_settings_drop_days_without_a_log_and_say_so(spark, config, folder, caplog):
    bring_up_to_date(spark, config(), None)
    (folder / "log" / f"{DAYS[0]}.jsonl").unlink()
    bring_up_to_date(spark, config(lookback=1), None)
    assert {day for day, _ in songs(config())} == set(DAYS[1:])
    assert f"dropped: {DAYS[0]}; version 0 of tables/pair_counts still has them" in caplog.text


def test_a_backfill_that_changes_the_counts_changes_what_the_next_snapshot_is_made_of(spark, config, folder):
    write(folder / "log" / "wrong.jsonl", likes(DAYS[0], "z"))
    bring_up_to_date(spark, config(), None)
    (folder / "log" / "wrong.jsonl").unlink()
    bring_up_to_date(spark, config(), None)
    before = raw_inputs(config())["log_input"]
    bring_up_to_date(spark, config(), day_range(DAYS[1], None))
    assert raw_inputs(config())["log_input"] == before  # it came out the same
    assert (DAYS[0], "z") in songs(config())
    bring_up_to_date(spark, config(), day_range(DAYS[0], None))
    assert (DAYS[0], "z") not in songs(config())
    after = raw_inputs(config())["log_input"]
    assert after != before
    write(folder / "log" / "new.jsonl", likes(DAYS[2], "y", hour=12))
    bring_up_to_date(spark, config(), None)
    (folder / "log" / "new.jsonl").unlink()
    assert raw_inputs(config())["log_input"] == after


def test_counts_of_another_key_are_not_added_to(spark, config, monkeypatch):
    bring_up_to_date(spark, config(), None)
    monkeypatch.setenv(KEY_VARIABLE, "another")
    with pytest.raises(HTCLError, match=f"another user key.* give the first one in {KEY_VARIABLE}"):
        bring_up_to_date(spark, config(), day_range(DAYS[0], None))


def test_runs_side_by_side_keep_each_others_quality_and_files(spark, config, folder, monkeypatch):
    import daily_counts

    here = config()
    count_files, beside = daily_counts.count_files, []

    def overtaken(*arguments):
        found = count_files(*arguments)
        if not beside:
            beside.append("another run")
            bring_up_to_date(spark, here, day_range(DAYS[1], None))
        return found

    monkeypatch.setattr(daily_counts, "count_files", overtaken)
    bring_up_to_date(spark, here, day_range(DAYS[0], None))
    assert {day for day, _ in songs(here)} == set(DAYS[:2])
    assert set(quality_table(here.workspace).read()["dt"].to_pylist()) == set(DAYS[:2])
    version = bring_up_to_date(spark, here, None)
    assert {day for day, _ in songs(here)} == set(DAYS)
    assert (
        len(
            {part.path for part in pair_table(here.workspace).parts(version - 1)}
            & {part.path for part in pair_table(here.workspace).parts(version)}
        )
        > 0
    )  # what both counted is not counted again
