"""What is tried again, and how a step that a process of its own makes says why it failed."""

import json
import subprocess
from types import SimpleNamespace

import pytest
from prefect.states import Failed

from flows import artifacts, steps
from htcl import boxes
from htcl.artifacts import Recipe
from htcl.config_file import validate_config
from htcl.errors import HTCLError, PassingError
from htcl.processes import allow_sessions, end_live_sessions


@pytest.mark.parametrize(
    ("state", "again"),
    [
        (steps.failed(PassingError("a host was lost")), True),
        (steps.failed(HTCLError("a column is missing")), False),
        (Failed(message="a fault of ours", data=ValueError("x")), False),
    ],
)
def test_only_what_can_pass_is_tried_again(state, again):
    assert steps.worth_another_try(None, None, state) is again


def test_nothing_is_tried_again_once_the_run_is_cancelled():
    end_live_sessions()
    try:
        assert not steps.worth_another_try(None, None, steps.failed(PassingError("was ended")))
    finally:
        allow_sessions()


def test_a_box_ends_with_one_sentence_about_what_a_person_can_mend(tmp_path):
    config = validate_config(
        {
            "name": "x",
            "workspace": str(tmp_path / "workspace"),
            "catalog": {"path": str(tmp_path / "catalog.jsonl")},
            "interactions": {"path": str(tmp_path)},
        },
        "a test",
    )
    (tmp_path / "catalog.jsonl").write_text('{"track_id": "a", "audio_path": "a.flac"}\n')
    work = json.dumps(boxes.describe(config, Recipe("catalog", 1, {}, {})))
    done = subprocess.run(boxes.COMMAND, input=work, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert done.returncode == 1 and "column 'title' is missing" in lines[-1]
    assert not list((tmp_path / "workspace").rglob("manifest.json"))


@pytest.mark.parametrize(
    ("line", "logged"),
    [
        ("View run at http://host/x", "stage1: View run at http://host/x"),
        ("ts=2026-01-01T00:00:00Z level=info step=training msg=step rank=1", "training: step rank=1"),
    ],
)
def test_each_line_of_a_child_has_its_step(monkeypatch, line, logged):
    said = []
    logger = SimpleNamespace(info=said.append, log=lambda level, text: said.append(text))
    monkeypatch.setattr(steps, "get_run_logger", lambda: logger)
    steps.log_line("stage1")(line)
    assert said == [logged]


def test_what_cannot_be_shown_in_prefect_is_a_warning(monkeypatch):
    said = []
    monkeypatch.setattr(artifacts, "get_run_logger", lambda: SimpleNamespace(warning=said.append))

    @artifacts.shown
    def show(what):
        raise ConnectionError(f"no server for {what}")

    show("losses")
    assert said == ["could not show it in Prefect: ConnectionError: no server for losses"]
