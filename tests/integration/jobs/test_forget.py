"""A user who is to be forgotten leaves the counts, and nothing that is kept holds them any more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from daily_counts import bring_up_to_date
from forget_users import forget
from mine_pairs import day_range

from htcl.errors import HTCLError
from htcl.pairs.store import pair_table
from htcl.plan import raw_inputs
from htcl.users import forget_user, hash_users, load_user_key

ROOT = Path(__file__).resolve().parents[3]
DAYS = ("2025-03-01", "2025-03-02", "2025-03-03", "2025-03-04")


def write_day(folder, day, users):
    """A file of one day on which each of these users likes two songs."""
    path = folder / f"{day}.jsonl"
    path.parent.mkdir(exist_ok=True)
    rows = [
        {"ts": f"{day}T10:0{n}:00Z", "user_id": user, "track_id": song, "event_type": "like"}
        for user in users
        for n, song in enumerate("ab")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def config(tmp_path, configured):
    """Four days; ana is there on the first and on the third."""
    for day, users in zip(DAYS, (("ana", "ben"), ("ben",), ("ana",), ("ben", "cem")), strict=True):
        write_day(tmp_path / "log", day, users)
    return configured(
        workspace=str(tmp_path / "workspace"),
        interactions={"path": str(tmp_path / "log"), "max_reject_share": 0.9},
    )


def rows(config, version=None):
    return sorted(map(repr, pair_table(config.workspace).read(version).to_pylist()))


def hash_of(config, user):
    return hash_users(pa.array([user]), load_user_key(config.workspace))[0].as_py()


def holders(config):
    """The hashes of users that any file of the counts holds, also files of no version."""
    files = Path(pair_table(config.workspace).uri).rglob("*.parquet")
    return {user for file in files if "_delta_log" not in str(file) for user in _users(pq.ParquetFile(file).read())}


def _users(table):
    return [user for row in table["users"].to_pylist() for user in row]


def test_days_that_hold_the_user_are_counted_again_and_no_file_holds_them(spark, config, tmp_path):
    bring_up_to_date(spark, config, None)
    ana, ben = (hash_of(config, name) for name in ("ana", "ben"))
    assert {ana, ben} <= holders(config)
    before = raw_inputs_of(config)
    forget_user(config.workspace, "ana")
    found = forget(spark, config)
    assert found["days_counted_again"] == 1 and found["days_dropped"] == 1 and found["days_kept"] == 2
    assert found["files_deleted"] > 0
    assert ana not in holders(config) and ben in holders(config)
    anew = config.model_copy(update={"workspace": str(tmp_path / "anew")})
    (tmp_path / "anew").mkdir()
    (tmp_path / "workspace" / "secrets").rename(tmp_path / "anew" / "secrets")
    bring_up_to_date(spark, anew, None)
    assert rows(config) == rows(anew)
    # The next run takes another snapshot.
    (tmp_path / "anew" / "secrets").rename(tmp_path / "workspace" / "secrets")
    assert raw_inputs_of(config) != before


def raw_inputs_of(config):
    catalog = Path(config.workspace).parent / "catalog.jsonl"
    catalog.write_text("{}\n")
    (catalog.parent / "audio").mkdir(exist_ok=True)
    section = config.catalog.model_copy(update={"path": str(catalog), "audio_root": str(catalog.parent / "audio")})
    return raw_inputs(config.model_copy(update={"catalog": section}))


def test_derived_days_whose_log_is_gone_are_dropped_whoever_they_held(spark, config, tmp_path):
    bring_up_to_date(spark, config, None)
    (tmp_path / "log" / f"{DAYS[1]}.jsonl").unlink()
    bring_up_to_date(spark, config, None)
    assert DAYS[1] in pair_table(config.workspace).read()["dt"].to_pylist()  # as long as nobody is forgotten
    forget_user(config.workspace, "nobody")
    found = forget(spark, config)
    assert found["days_dropped"] == 1 and found["days_counted_again"] == 0 and found["days_kept"] == 3
    assert DAYS[1] not in pair_table(config.workspace).read()["dt"].to_pylist()


def test_a_plain_run_forgets_too_and_does_so_once(spark, config):
    first = bring_up_to_date(spark, config, None)
    forget_user(config.workspace, "ana")
    second = bring_up_to_date(spark, config, None)
    assert second > first and bring_up_to_date(spark, config, None) == second
    assert hash_of(config, "ana") not in _users(pair_table(config.workspace).read())


def test_a_backfill_does_not_take_the_users_of_other_days_as_forgotten(spark, config):
    bring_up_to_date(spark, config, None)
    forget_user(config.workspace, "ana")
    bring_up_to_date(spark, config, day_range(DAYS[0], DAYS[0]))
    assert hash_of(config, "ana") in _users(pair_table(config.workspace).read())
    bring_up_to_date(spark, config, None)
    assert hash_of(config, "ana") not in _users(pair_table(config.workspace).read())


def test_versions_that_were_vacuumed_away_are_one_sentence(spark, config):
    version = bring_up_to_date(spark, config, None)
    pair_table(config.workspace).check_there(version)
    forget_user(config.workspace, "ana")
    forget(spark, config)
    with pytest.raises(HTCLError, match=rf"table pair_counts: the files of version {version} were vacuumed away"):
        pair_table(config.workspace).check_there(version)


def test_the_command_forgets_and_says_what_it_did(spark, config, tmp_path):
    """`htcl forget` from outside, the id by standard input; the id stands in no line and in no file."""
    user = "listener 4711"
    write_day(tmp_path / "log", DAYS[3], ("ben", user))
    bring_up_to_date(spark, config, None)
    path = tmp_path / "htcl.yaml"
    values = {
        "workspace": config.workspace,
        "catalog": {"path": "catalog.jsonl", "audio_root": "audio"},
        "interactions": {"path": "log", "max_reject_share": 0.9},
        "pairs": {"buckets": 2},
        "spark": {"master": "local[2]", "driver_memory": "1g"},
    }
    path.write_text(yaml.safe_dump(values))
    raw_inputs_of(config)
    command = [str(Path(sys.executable).parent / "htcl"), "forget", "-", "--config", str(path)]
    home = {**os.environ, "HTCL_HOME": str(ROOT), "PREFECT_HOME": str(tmp_path / "prefect")}
    done = subprocess.run(command, input=user, capture_output=True, text=True, env=home, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "days_counted_again=1" in done.stdout and "delete them there" in done.stdout
    assert user not in done.stdout + done.stderr
    kept = [file for folder in ("workspace", "prefect") for file in (tmp_path / folder).rglob("*") if file.is_file()]
    assert kept and not [file for file in kept if user.encode() in file.read_bytes()]
    assert hash_of(config, user) not in holders(config)
