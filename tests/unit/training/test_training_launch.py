"""A stage is published when its marker is there, and only then; the exit code decides nothing."""

import base64
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from htcl.artifacts import ArtifactStore, Recipe
from htcl.config_file import validate_config
from htcl.errors import HTCLError
from htcl.plan import Step
from htcl.training import launch, loop, worker
from htcl.training.card import write_model_card
from htcl.training.launch import MARKER, run_stage

from ..test_processes import alive, await_end


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
            for line in tail or ["a line"]:
                on_line(line)
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
    assert json.loads(base64.urlsafe_b64decode(arguments["--world_info"])) == {"localhost": [0, 1]}
    assert env["PATH"].startswith(str(Path(sys.executable).parent)) and int(env["OMP_NUM_THREADS"]) >= 1


def test_the_ranks_read_the_same_configuration_and_recipe(config, ranks, monkeypatch):
    """They must not plan again: an input that grew meanwhile would give them other keys."""
    read = []
    monkeypatch.setattr(loop, "train", lambda *arguments: read.append(arguments))
    ranks(lambda out, work: (worker._train(out, work), finish(out, work)))
    step = step_of(champion="0123")
    run_stage(config, step, print)
    ((read_config, read_step, _, _),) = read
    assert (read_config, read_step) == (config, step) and read_step.key == step.key


SENTENCE = 'ts=1 level=error step=stage2 msg="stage2: 3 samples do not fill one batch" rank=1'
BAD_SHARD = 'ts=1 level=error step=stage2 msg="pairs and shards disagree about the split" rank=1'
ARROW = 'ts=1 level=error step=stage2 msg="Invalid: no magic" rank=1 exception=ArrowInvalid'
LOST = 'ts=2 level=error step=stage2 msg="Connection closed by peer" rank=0 exception=RuntimeError'
BARE = 'ts=2 level=error step=stage2 msg="" rank=0 exception=AssertionError'
TRACEBACK = ["Traceback (most recent call last):", '  File "x.py", line 1, in <module>', "    call()"]
SLEEPER = "import os, sys, time; sys.stdout.write(f'rank {os.getpid()}\\n'); time.sleep(100)"  # one write a line
BEFORE = "stage2: training ended with exit code 7 before the model was written: "


@pytest.mark.parametrize("code", [0, -9])
def test_an_unfinished_stage_is_not_published_and_keeps_its_checkpoints(config, ranks, code):
    ranks(lambda _, work: (work / "checkpoints").mkdir(), code, ["a line"])
    step = step_of()
    with pytest.raises(HTCLError, match=rf"stage2: training ended with exit code {code} .*: a line"):
        run_stage(config, step, print)
    assert not ArtifactStore(config.workspace).published("stage2", step.key)
    assert (Path(config.workspace) / "training" / f"stage2-{step.key}" / "checkpoints").is_dir()
    assert list(Path(config.workspace).glob("artifacts/stage2/.*")) == []


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ([*TRACEBACK, "RuntimeError: lost", LOST, SENTENCE, "[launcher] exits"], SENTENCE.split('"')[1]),
        ([BAD_SHARD, LOST], "stage2: pairs and shards disagree about the split"),
        ([ARROW, LOST, *TRACEBACK, "RuntimeError: lost"], BEFORE + "ArrowInvalid: Invalid: no magic (rank 1)"),
        ([BARE], BEFORE + "AssertionError (rank 0)"),
        (
            [*TRACEBACK, "pyarrow.lib.ArrowInvalid: no magic", "Time to load op: 1", "Loading: it", "[launcher] exits"],
            BEFORE + "pyarrow.lib.ArrowInvalid: no magic",
        ),
        (
            [f"[rank1]: {line}" for line in [*TRACEBACK, "torch.OutOfMemoryError: CUDA", "    Error in frame"]],
            BEFORE + "torch.OutOfMemoryError: CUDA",
        ),
        ([*TRACEBACK[:1], *TRACEBACK, "ValueError: one", "KeyError: 'two'", "Note: three"], BEFORE + "KeyError: 'two'"),
        (["Warning: no traceback", "the last line ", ""], BEFORE + "the last line"),
        ([""], BEFORE + "no output"),
    ],
)
def test_the_first_real_cause_is_named(config, ranks, lines, cause):
    ranks(lambda *_: None, 7, lines)
    with pytest.raises(HTCLError) as error:
        run_stage(config, step_of(), print)
    assert str(error.value) == cause


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (HTCLError("3 samples"), 'msg="3 samples" rank=1'),
        (ZeroDivisionError("by\nzero"), 'msg="by zero" rank=1 exception=ZeroDivisionError'),
    ],
)
def test_every_rank_logs_its_own_error_as_one_line(monkeypatch, capsys, error, line):
    def fail(out, work):
        raise error

    monkeypatch.setattr(worker, "_train", fail)
    monkeypatch.setattr(sys, "argv", ["worker", "--out", "o", "--work", "w"])
    monkeypatch.setenv("RANK", "1")
    with pytest.raises((SystemExit, ZeroDivisionError)) as raised:
        worker.main()
    assert raised.type is ZeroDivisionError or raised.value.code == 1
    (printed,) = capsys.readouterr().err.splitlines()
    assert printed.endswith(f"level=error step=training {line}")


def test_a_remote_workspace_has_its_checkpoints_in_a_folder_of_the_user_alone(config, tmp_path, monkeypatch):
    monkeypatch.setattr(launch.tempfile, "gettempdir", lambda: str(tmp_path))
    folders = []
    for workspace in ("s3://bucket/a", "s3://bucket/b"):
        folders.append(launch._work_folder(config.model_copy(update={"workspace": workspace}), step_of()))
    assert folders[0].is_dir() and folders[0] != folders[1]
    own = tmp_path / f"htcl-training-{os.getuid()}"
    assert own in folders[0].parents and own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o755)
    with pytest.raises(HTCLError, match="is open to other users"):
        launch._work_folder(config.model_copy(update={"workspace": "s3://bucket/a"}), step_of())


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells a child of its parent's death")
def test_the_ranks_of_a_parent_that_is_killed_end_too(config, tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    command = launch._command(config, tmp_path, tmp_path, 29500)
    command[command.index("htcl.training.worker")] = "sleeper"
    script = "import sys; from htcl.processes import run_process\n"
    script += "run_process(sys.argv[1:], lambda line: print(line, flush=True))"
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *command],
        env={**os.environ, **launch._environment(config)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    pids = []
    while len(pids) < 2:
        words = parent.stdout.readline().split()
        assert words, "the launcher ended"
        pids += [int(words[1])] if words[0] == "rank" else []
    assert all(alive(pid) for pid in pids)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert await_end(pids, 10) == []


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
