"""Bad input ends in one sentence with the way out, exit code not 0, and nothing published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from htcl.champion import require_champion

from .harness import Htcl, Run


@pytest.fixture
def project(tmp_path: Path, tiny_config: Path) -> Path:
    """A configuration of its own over the shared world, with nothing made yet."""
    values = yaml.safe_load(tiny_config.read_text())
    for section in ("catalog", "interactions"):
        values[section]["path"] = str(tiny_config.parent / values[section]["path"])
    values["workspace"] = str(tmp_path / "workspace")
    path = tmp_path / "htcl.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def change(project: Path, **sections: Any) -> None:
    values = yaml.safe_load(project.read_text())
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    project.write_text(yaml.safe_dump(values))


def expect_refusal(htcl: Htcl, project: Path, *words: str) -> str:
    done = htcl("run", project)
    printed = done.stdout + done.stderr
    assert done.returncode != 0
    for word in words:
        assert word in printed, printed[-3000:]
    assert "Traceback" not in printed, printed[-3000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("htcl: ")
    assert all(word in last for word in words), last
    return printed


def test_a_config_typo_names_the_key_and_the_nearest_one(htcl: Htcl, project: Path) -> None:
    change(project, pairs={"min_user": 2})
    expect_refusal(htcl, project, "'pairs.min_user'", "did you mean 'min_users'")


def test_an_empty_catalog_is_refused(htcl: Htcl, project: Path) -> None:
    empty = project.parent / "catalog.jsonl"
    empty.write_text("")
    change(project, catalog={"path": str(empty)})
    expect_refusal(htcl, project, "catalog.path", "holds no row")


def test_a_missing_column_names_the_setting_that_maps_it(htcl: Htcl, project: Path) -> None:
    catalog = project.parent / "catalog.jsonl"
    catalog.write_text(json.dumps({"track_id": "a", "audio_path": "a.flac"}) + "\n")
    change(project, catalog={"path": str(catalog)})
    expect_refusal(htcl, project, "column 'title' is missing", "catalog.columns.title")


def test_one_class_of_unreadable_audio_names_the_reason(htcl: Htcl, project: Path) -> None:
    values = yaml.safe_load(project.read_text())
    source = Path(values["catalog"]["path"])
    root = project.parent / "catalog"
    (root / "audio").mkdir(parents=True)
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    for row in rows:
        row["audio_path"] = f"audio/{row['track_id']}.mid"
        (root / row["audio_path"]).write_bytes(b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x00\x60MTrk")
    (root / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    change(project, catalog={"path": str(root / "catalog.jsonl")})
    expect_refusal(htcl, project, f"{len(rows)} of {len(rows)} rejected", "not_audio", "audio.max_reject_share")
    assert not (project.parent / "workspace" / "published").exists()


def test_a_refused_run_leaves_what_is_published_as_it_was(htcl: Htcl, own_run: Run) -> None:
    before = require_champion(own_run.config.workspace)
    log = yaml.safe_load(own_run.path.read_text())["interactions"]["path"]
    change(own_run.path, interactions={"path": "/nowhere/logs"})
    expect_refusal(htcl, own_run.path, "/nowhere/logs", "does not exist", "check the path")
    change(own_run.path, interactions={"path": log}, pairs={"min_users": 40})
    expect_refusal(htcl, own_run.path, "with 40 users", "lower pairs.min_users")
    change(own_run.path, interactions={"positive": {"purchase": {}}})
    expect_refusal(htcl, own_run.path, "none of", "is a positive response", "interactions.positive (purchase)")
    assert require_champion(own_run.config.workspace) == before
    assert "T000003" not in htcl("similar", "T000003", "--config", own_run.path).stderr


def test_a_refused_step_ends_what_works_beside_it(htcl: Htcl, own_run: Run) -> None:
    change(own_run.path, pairs={"min_users": 40}, stage1={"epochs": 5000})
    printed = expect_refusal(htcl, own_run.path, "with 40 users", "lower pairs.min_users")
    assert "stage1: runs, because" in printed and "stage2: runs" not in printed
    training = Path(own_run.config.workspace) / "training"
    assert list(training.glob("stage1-*/checkpoints/step-*"))


def test_the_demo_command_makes_a_world_once(htcl: Htcl, tmp_path: Path) -> None:
    first = htcl("demo", "--root", tmp_path, "--songs", 32, "--no-run")
    assert "generated" in first.stdout
    assert "done=32" in first.stdout + first.stderr
    assert "is there already" in htcl("demo", "--root", tmp_path, "--songs", 32, "--no-run").stdout
    assert "would run" in htcl("status", tmp_path / "htcl.yaml").stdout
