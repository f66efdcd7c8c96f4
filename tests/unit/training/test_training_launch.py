"""A stage is published when its marker is there, and only then; the exit code decides nothing."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from htcl.artifacts import ArtifactStore, Recipe
from htcl.config_file import load_config, validate_config
from htcl.errors import HTCLError
from htcl.plan import Step
from htcl.training import launch
from htcl.training.card import write_model_card
from htcl.training.launch import MARKER, run_stage


@pytest.fixture
def config(tmp_path):
    return validate_config(
        {
            "workspace": str(tmp_path / "workspace"),
            "name": "Llibre de música",
            "catalog": {"path": str(tmp_path / "c")},
            "interactions": {"path": str(tmp_path / "l")},
            "training": {"processes": 2},
        },
        "test",
    )


def step_of(**inputs):
    return Step("stage2", Recipe("stage2", 1, {}, inputs), False, "")


@pytest.fixture
def ranks(monkeypatch):
    """Replace the launcher's processes by a function of the arguments; returns the calls."""

    def replaced(act, code=0, tail=()):
        calls = []

        def run(command, on_line, env):
            arguments = dict(pairwise(command))
            calls.append((command, arguments, env))
            on_line("a line")
            act(Path(arguments["--out"]), Path(arguments["--work"]))
            return code, list(tail)

        monkeypatch.setattr(launch, "run_process", run)
        return calls

    return replaced


def finish(out, work):
    (work / "checkpoints").mkdir()
    (out / "model.safetensors").write_text("weights")
    (out / MARKER).write_text("")


@pytest.mark.parametrize("code", [0, 1])
def test_a_finished_stage_is_published_without_marker_and_checkpoints(config, ranks, code):
    lines, calls = [], ranks(finish, code)
    step = step_of(champion="0123")
    run_stage(config, step, lines.append)
    folder = ArtifactStore(config.workspace).fetch("stage2", step.key)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.safetensors"]
    assert lines == ["a line"]
    assert list(Path(config.workspace).glob("training/*")) == []
    ((command, arguments, env),) = calls
    assert command[0] == sys.executable and arguments["--module"] == "htcl.training.worker"
    assert (arguments["--num_gpus"], arguments["--stage"], arguments["--champion"]) == ("2", "stage2", "0123")
    assert env["PATH"].startswith(str(Path(sys.executable).parent)) and int(env["OMP_NUM_THREADS"]) >= 1


def test_the_ranks_read_the_same_configuration(config, ranks):
    read = []
    calls = ranks(lambda out, work: (read.append(load_config(work / "config.yaml")), finish(out, work)))
    run_stage(config, step_of(), print)
    assert read == [config]
    assert "--champion" not in calls[0][0]


@pytest.mark.parametrize("code", [0, -9])
def test_an_unfinished_stage_is_not_published_and_keeps_its_checkpoints(config, ranks, code):
    tail = [
        "RuntimeError: some rank",
        'level=error event="stage2: 3 samples do not fill one batch"',
        "  raise SystemExit",
    ]
    ranks(lambda _, work: (work / "checkpoints").mkdir(), code, tail)
    step = step_of()
    with pytest.raises(HTCLError, match=rf"stage2: training ended with exit code {code} .*: level=error .*batch"):
        run_stage(config, step, print)
    assert not ArtifactStore(config.workspace).published("stage2", step.key)
    assert (Path(config.workspace) / "training" / f"stage2-{step.key}" / "checkpoints").is_dir()
    assert list(Path(config.workspace).glob("artifacts/stage2/.*")) == []


@pytest.mark.parametrize(
    ("tail", "cause"),
    [
        (["torch.OutOfMemoryError: CUDA", "    Error in frame", "[launcher] exits"], "torch.OutOfMemoryError: CUDA"),
        (["one", "the last line "], "the last line"),
        ([], "no output"),
    ],
)
def test_the_likeliest_cause_is_named(config, ranks, tail, cause):
    ranks(lambda *_: None, 1, tail)
    with pytest.raises(HTCLError, match=f": {cause}$"):
        run_stage(config, step_of(), print)


def test_model_card_says_what_the_model_was_made_from(config, tmp_path):
    records = [{"step": 10, "loss": 2.5}, {"step": 20, "loss": 1.25}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    step = step_of(stage1="abc", pairs="def")
    write_model_card(tmp_path, config, step, samples=17, steps=20)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: htcl\n") and "# HTCL stage2: Llibre de música" in card
    for line in ("| made from | stage1 abc, pairs def |", "| last logged loss | 1.2500 |", "| steps | 20 |"):
        assert line in card
    assert f"| artifact key | {step.key} |" in card
