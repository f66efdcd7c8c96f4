import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from htcl import cli, flow_process
from htcl.config_file import load_config
from htcl.demo import project
from htcl.demo.project import prepare_demo
from htcl.errors import HTCLError
from htcl.flow_process import DONE_PREFIX, FAILED_PREFIX, run_flow

TEXT = "name: NAME\nworkspace: work\ncatalog: {path: catalog.jsonl}\ninteractions: {path: log}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.CONFIG_VARIABLE, raising=False)
    monkeypatch.delenv("HTCL_HOME", raising=False)
    return tmp_path


def write(path, name):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEXT.replace("NAME", name))
    return path


def checkout(path):
    (path / "flows").mkdir(parents=True)
    (path / "flows" / "full_pipeline.py").touch()
    return path


def test_the_configuration_is_the_named_one_then_the_environments_then_the_folders_then_the_demos(folder, monkeypatch):
    with pytest.raises(HTCLError, match="which catalog"):
        cli._default_config(None)
    write(folder / "workspace" / "demo" / "htcl.yaml", "demo")
    assert cli._default_config(None).name == "demo"
    write(folder / "htcl.yaml", "folder")
    assert cli._default_config(None).name == "folder"
    monkeypatch.setenv(cli.CONFIG_VARIABLE, str(write(folder / "env.yaml", "environment")))
    assert cli._default_config(None).name == "environment"
    assert cli._default_config(write(folder / "named.yaml", "named")).name == "named"


def test_a_named_configuration_that_is_missing_is_not_passed_over(folder, monkeypatch):
    write(folder / "htcl.yaml", "folder")
    with pytest.raises(HTCLError, match=r"none\.yaml"):
        cli._default_config(Path("none.yaml"))
    monkeypatch.setenv(cli.CONFIG_VARIABLE, "none.yaml")
    with pytest.raises(HTCLError, match=r"none\.yaml"):
        cli._default_config(None)


def test_the_checkout_is_htcl_home_then_the_working_directory_then_the_codes(folder, monkeypatch):
    monkeypatch.setattr(flow_process, "__file__", str(checkout(folder / "code") / "htcl" / "cli.py"))
    assert flow_process._checkout() == folder / "code"
    checkout(folder)
    assert flow_process._checkout() == folder
    monkeypatch.setenv("HTCL_HOME", str(checkout(folder / "home")))
    assert flow_process._checkout() == folder / "home"
    monkeypatch.setenv("HTCL_HOME", str(folder / "nowhere"))
    with pytest.raises(HTCLError, match=r"HTCL_HOME names .*nowhere, which holds no flows"):
        flow_process._checkout()


def test_without_a_checkout_the_sentence_says_what_to_do(folder, monkeypatch):
    monkeypatch.setattr(flow_process, "__file__", str(folder / "site-packages" / "htcl" / "cli.py"))
    with pytest.raises(HTCLError, match="run in a checkout of htcl, or set HTCL_HOME"):
        flow_process._checkout()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "none.yaml"], "cannot read the config file none.yaml"),
        (["run", "htcl.yaml", "--set", "pairs.topk=1"], "did you mean 'top_k'?"),
        (["run", "htcl.yaml"], "catalog.jsonl does not exist; check the path in the config"),
        (["search", "piano", "--config", "htcl.yaml"], "nothing is published in"),
        (["demo", "--songs", "3", "--no-run"], "songs=3 is too small a world"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence_and_exit_code_1(folder, monkeypatch, capsys, arguments, words):
    write(folder / "htcl.yaml", "test")
    monkeypatch.setattr(sys, "argv", ["htcl", *arguments])
    handlers = {sign: signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        for sign, handler in handlers.items():
            signal.signal(sign, handler)
    written = capsys.readouterr()
    assert caught.value.code == 1
    assert written.err.startswith("htcl: ")
    assert written.err.count("\n") == 1
    assert words in written.err


@pytest.mark.parametrize("prefix", [DONE_PREFIX, FAILED_PREFIX])
def test_what_came_of_a_flow_is_heard_whatever_prefect_prints_behind_it(folder, monkeypatch, prefix):
    monkeypatch.setattr(flow_process.signal, "signal", lambda sign, handler: None)
    write(folder / "htcl.yaml", "test")
    flow = checkout(folder) / "flows" / "full_pipeline.py"
    code, done = int(prefix == FAILED_PREFIX), {"outcome": "it went well", "keys": {}}
    flow.write_text(f"import sys\nprint('{prefix}{json.dumps(done)}')\nprint('noise\\n' * 200)\nsys.exit({code})\n")
    if code:
        with pytest.raises(HTCLError, match="it went well"):
            run_flow("flows.full_pipeline", folder / "htcl.yaml", [])
    else:
        assert run_flow("flows.full_pipeline", folder / "htcl.yaml", []).outcome == "it went well"


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
def test_ending_htcl_run_ends_the_flow(folder, sign):
    write(folder / "htcl.yaml", "test")
    (folder / "catalog.jsonl").write_text("{}\n")
    (folder / "log").mkdir()
    (folder / "log" / "a.jsonl").write_text("{}\n")
    flow = checkout(folder) / "flows" / "full_pipeline.py"
    flow.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n")
    command = [sys.executable, "-m", "htcl.cli", "run", "htcl.yaml"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    os.kill(process.pid, sign)
    process.communicate(timeout=60)
    assert process.returncode == 128 + sign
    deadline = time.monotonic() + 60
    status = Path(f"/proc/{child}/status")
    while status.exists() and "\nState:\tZ" not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not status.exists() or "\nState:\tZ" in status.read_text()


def test_the_demo_writes_a_configuration_that_finds_its_world(folder, monkeypatch):
    def world_of(root, **_):
        root.mkdir(parents=True)
        return root

    monkeypatch.setattr(project, "generate_world", world_of)
    path, world = prepare_demo(folder / "demo", songs=40, seed=7)
    config = load_config(path)
    assert config.catalog.path == str(world / "catalog.jsonl")
    assert config.interactions.path == str(world / "interactions")
    assert config.workspace == str(folder / "demo" / "workspace")


def test_importing_htcl_and_its_command_costs_no_torch_and_no_spark():
    script = "import sys, htcl.cli; print({'torch', 'pyspark', 'prefect', 'deltalake'} & set(sys.modules))"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "set()"


def test_training_as_a_rank_needs_a_scheduler(tmp_path, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "htcl.yaml"
    path.write_text("workspace: w\ncatalog: {path: c}\ninteractions: {path: l}\n")
    with pytest.raises(HTCLError, match="RANK is not set: `htcl train` runs as one rank that a scheduler placed"):
        cli.app(["train", str(path), "stage1"], standalone_mode=False)
