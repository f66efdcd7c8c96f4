"""A stage has worked when its model is published, and only then; the exit code decides nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from htcl.artifacts import ArtifactStore, Recipe
from htcl.errors import HTCLError
from htcl.plan import Step
from htcl.training import hosts, launch
from htcl.training.agent import EXIT_INTERRUPTED
from htcl.training.card import write_model_card
from htcl.training.hosts import LOCAL
from htcl.training.launch import run_stage
from htcl.training.worker import describe

from ..test_processes import alive, await_end

HERE = socket.gethostname()
AGENT = """
import json, os, sys, threading, time
from pathlib import Path
folder, host = Path(__file__).parent, os.environ.get("REACHED", "127.0.0.1")

def say(*lines):
    sys.stdout.write("".join(line + "\\n" for line in lines))
    sys.stdout.flush()

def rendezvous():
    say("ts=1 level=info step=training msg=rendezvous port=123")

def publish():
    from htcl.artifacts import ArtifactStore, Recipe
    with ArtifactStore(job["work"]["config"]["workspace"]).create(Recipe(**job["work"]["recipe"])) as draft:
        (draft.path / "model.safetensors").write_text("weights")

def until(name):
    while not (folder / name).exists():
        time.sleep(0.01)

def until_closed():
    for _ in sys.stdin:
        pass

threading.Timer(50, os._exit, [99]).start()  # whatever a test finds, nothing stays
line = sys.stdin.readline()
if not line:
    from htcl.training.agent import main
    main()
    os._exit(0)
job = json.loads(line)
(folder / f"{host}.part").write_text(json.dumps({"pid": os.getpid(), **job}))
(folder / f"{host}.part").rename(folder / f"{host}.json")
exec((folder / f"{host}.txt").read_text())
os._exit(0)
"""
SSH = """#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
export REACHED="$1"
shift
[ -e "$(dirname "$0")/$REACHED.txt" ] && exec sh -c "$*"
echo "ssh: connect to host $REACHED port 22: Connection refused"
exit 255
"""
SENTENCE = 'ts=1 level=error step=training msg="3 samples do not fill one batch" rank=1 host=b ends=True'
ARROW = 'ts=1 level=error step=training msg="no magic" rank=1 host=b exception=ArrowInvalid ends=True'
PEER = 'ts=2 level=error step=training msg="Connection closed" rank=0 host=a exception=RuntimeError ends=True'
TRACEBACK = ["Traceback (most recent call last):", '  File "x.py", line 1, in <module>', "ValueError: one"]
KILL = "os.kill(os.getpid(), 9)"


@pytest.fixture
def config(make_config):
    return make_config(processes=2)


STEP = Step("stage2", Recipe("stage2", 1, {}, {"champion": "0123"}), False, "")


@pytest.fixture
def agents(config, tmp_path, monkeypatch):
    """Run a stage whose agents are scripts, one of this host or those of several; returns what it hands over."""
    monkeypatch.setattr(launch, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(hosts, "AGENT", ["-u", str(tmp_path / "agent.py")])
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "hosts").write_text("alpha slots=3\nbeta\ngamma slots=2\n")
    lines = []

    def run(script="", on_line=lines.append, stall=600, **scripts):
        changes = {"stall_seconds": stall, "hostfile": str(tmp_path / "hosts") if scripts else ""}
        for host, text in (scripts or {LOCAL: script}).items():
            (tmp_path / f"{host}.txt").write_text(textwrap.dedent(text))
        training = config.training.model_copy(update=changes)
        run_stage(config.model_copy(update={"training": training}), STEP, on_line)
        return lines

    run.lines = lines
    return run


@pytest.fixture
def failure(agents, config):
    """The sentence of a run that publishes nothing."""

    def failure(*arguments, **scripts):
        with pytest.raises(HTCLError) as error:
            agents(*arguments, **scripts)
        assert not ArtifactStore(config.workspace).published("stage2", STEP.key)
        return str(error.value)

    return failure


@pytest.fixture
def job(tmp_path):
    """What an agent got, and its process id."""
    return lambda host=LOCAL: json.loads((tmp_path / f"{host}.json").read_text())


def ended(code, why):
    return f"stage2: training ended with exit code {code} before the model was published: {why}"


@pytest.mark.parametrize("ending", ["", "os._exit(1)", f"os._exit({EXIT_INTERRUPTED})", KILL])
def test_a_published_model_is_a_success_whatever_the_exit_code(agents, config, ending):
    assert agents(f"say('a line'); publish(); say({SENTENCE!r}); {ending}") == ["a line", SENTENCE]
    folder = ArtifactStore(config.workspace).fetch("stage2", STEP.key)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (f"say({PEER!r}, *{TRACEBACK}, {SENTENCE!r}); os._exit(7)", "stage2: 3 samples do not fill one batch"),
        (f"say(*{TRACEBACK}, {ARROW!r}, {PEER!r}); os._exit(7)", ended(7, "ArrowInvalid: no magic (rank 1 on host b)")),
        (f"say(*{TRACEBACK}, 'the last line'); os._exit(7)", ended(7, "ValueError: one")),
        (
            "say('Warning: no traceback', 'the last line ', ''); os._exit(7)",
            ended(7, f"its ranks on host {HERE} ended with exit code 7: the last line"),
        ),
        (KILL, ended(-9, f"its ranks on host {HERE} ended with exit code -9: no output")),
        ("say('a line')", ended(0, "nobody said why")),
    ],
)
def test_the_best_cause_is_named_when_no_model_is_published(failure, script, sentence):
    assert failure(script) == sentence


def test_interrupted_ranks_have_left_a_checkpoint(failure):
    assert failure(f"say('a line'); os._exit({EXIT_INTERRUPTED})") == (
        "stage2: interrupted; what is done is in a checkpoint, from which the next run goes on"
    )


def test_a_known_cause_is_named_though_the_ranks_could_still_save(failure):
    script = f"say({SENTENCE!r}); os._exit({EXIT_INTERRUPTED})"
    assert failure(script) == "stage2: 3 samples do not fill one batch"


def test_the_agent_of_one_host_looks_for_a_port_and_gets_all_that_ranks_read(agents, config, job):
    assert agents("rendezvous(); publish()") == []
    got = job()
    assert (got["ranks"], got["world_size"], got["master_addr"], got["master_port"]) == ([0, 1], 2, LOCAL, 0)
    assert got["work"] == json.loads(json.dumps(describe(config, STEP)))


def test_the_ranks_of_several_hosts_are_numbered_through_and_meet_at_the_first(agents, config, job):
    first = "rendezvous(); until('beta.json'); until('gamma.json'); publish(); (folder / 'done').touch(); say('a')"
    assert agents(alpha=first, beta="until('done')", gamma="until('done')") == ["a"]
    jobs = [job(host) for host in ("alpha", "beta", "gamma")]
    assert [job["ranks"] for job in jobs] == [[0, 1, 2], [3], [4, 5]]
    assert [job["master_port"] for job in jobs] == [0, 123, 123]
    assert {(job["world_size"], job["master_addr"]) for job in jobs} == {(6, "alpha")}
    assert jobs[0]["work"] == jobs[1]["work"] == jobs[2]["work"] and jobs[0]["env"] == jobs[2]["env"]


WAITS = f"until_closed(); say('closed ' + host); os._exit({EXIT_INTERRUPTED})"


@pytest.mark.parametrize(
    ("ending", "sentence"),
    [
        ("say('failed'); os._exit(3)", ended(3, "its ranks on host alpha ended with exit code 3: failed")),
        ("os._exit(137)", ended(137, "its ranks on host alpha ended with exit code 137: no output")),
        (f"say({ARROW!r}); os._exit(1)", ended(1, "ArrowInvalid: no magic (rank 1 on host b)")),
    ],
)
def test_when_the_ranks_of_one_host_fail_the_others_are_ended(agents, failure, ending, sentence):
    first = f"rendezvous(); until('beta.json'); until('gamma.json'); {ending}"
    assert failure(alpha=first, beta=WAITS, gamma=WAITS) == sentence
    assert {"closed beta", "closed gamma"} <= set(agents.lines)


def test_an_agent_that_does_not_end_is_killed(failure, job, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "STOP_SECONDS", 0.2 - 25)  # less the default grace
    first = f"rendezvous(); until('beta.json'); say({SENTENCE!r}); os._exit(1)"
    stays = "time.sleep(20); (folder / 'slept').touch()"
    assert failure(alpha=first, beta=stays, gamma=WAITS) == "stage2: 3 samples do not fill one batch"
    assert await_end([job("beta")["pid"]]) == [] and not (tmp_path / "slept").exists()


def test_a_first_agent_that_dies_early_leaves_the_others_without_a_job(failure, tmp_path):
    """That they got none is not the cause."""
    first = "say('No module named htcl'); os._exit(1)"
    why = "its ranks on host alpha ended with exit code 1: No module named htcl"
    assert failure(alpha=first, beta=WAITS, gamma=WAITS) == ended(1, why)
    assert not (tmp_path / "beta.json").exists()


def test_a_host_that_ssh_does_not_reach_is_named(agents, failure):
    """The others, who hear of it late or never, may say anything."""
    first = f"until_closed(); rendezvous(); say({SENTENCE!r}); os._exit(1)"
    assert failure(alpha=first, gamma=WAITS) == (
        "stage2: the connection to host beta failed: ssh: connect to host beta port 22: Connection refused"
    )
    assert agents.lines.count(SENTENCE) == 1 and not any("rendezvous" in line for line in agents.lines)


def test_exit_code_255_of_this_hosts_agent_is_no_lost_connection(failure):
    why = f"its ranks on host {HERE} ended with exit code 255: no output"
    assert failure("os._exit(255)") == ended(255, why)


def test_a_stalled_rank_ends_the_run_and_is_named(agents, failure):
    pulses = """
        def pulse():
            alive = "ts=1 level=info step=training msg=alive rank={} host={} pid=1 global_step=4 phase={} part=0"
            while True:
                say(alive.format(0, "a", "exchange"), alive.format(1, "b", "data"))
                time.sleep(0.05)

        say("a line")
        threading.Thread(target=pulse, daemon=True).start()
        until_closed()
        os._exit(75)
    """
    sentence = failure(pulses, stall=1)
    assert sentence.startswith("stage2: rank 1 on host b ") and "after step 4 in data; training.stall" in sentence
    assert agents.lines == ["a line"]


def test_an_error_of_the_reader_ends_the_ranks(agents, job):
    def on_line(line):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        agents(on_line=on_line, alpha="rendezvous(); until('beta.json'); say('a line')", beta=WAITS, gamma=WAITS)
    assert await_end([job("beta")["pid"]]) == []


def test_ranks_anywhere_get_the_variables_that_they_need_and_no_others(agents, job, monkeypatch):
    needed = {
        "AWS_REGION": "eu",
        "HF_HOME": "a b",
        "NCCL_DEBUG": "INFO",
        "MLFLOW_TRACKING_URI": "http://x",
        "TMPDIR": "/t",
    }
    for name, value in {**needed, "HOME_TOKEN": "secret", "XAWS_KEY": "secret", "HTCL_USER_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    agents(alpha="rendezvous(); publish()", beta="", gamma="")
    env = job("beta")["env"]
    assert needed.items() <= env.items() and env["TOKENIZERS_PARALLELISM"] == "false"
    assert env["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert "secret" not in env.values() and not env.keys() & {"HOME", "HOME_TOKEN", "XAWS_KEY", "REACHED", "USER"}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells a child of its parent's death")
def test_the_ranks_of_a_parent_that_is_killed_end_too(config, tmp_path):
    rank = "import os, sys, time; sys.stdout.write(f'pid {os.getpid()}\\n'); time.sleep(50)"
    agent = f"from htcl.training import agent; agent.WORKER = ['-u', '-c', {rank!r}]; agent.main()"
    script = f"""
        import json, sys
        from htcl.artifacts import Recipe
        from htcl.config_file import validate_config
        from htcl.plan import Step
        from htcl.training import hosts, launch
        hosts.AGENT = ["-u", "-c", {agent!r}]
        step = Step("stage2", Recipe("stage2", 1, {{}}, {{}}), False, "")
        launch.run_stage(validate_config(json.loads(sys.argv[1]), "test"), step, lambda line: print(line, flush=True))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), config.model_dump_json()]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    pids = [int(parent.stdout.readline().rpartition("pid ")[2]) for _ in range(2)]
    assert all(alive(pid) for pid in pids)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert await_end(pids, 10) == []


def test_model_card_says_what_the_model_was_made_from(config, tmp_path):
    step = Step("stage2", Recipe("stage2", 1, {}, {"stage1": "abc", "pairs": "def"}), False, "")
    schedule = SimpleNamespace(samples=SimpleNamespace(songs=range(17)), total_steps=20, batch_size=4)
    write_model_card(tmp_path, config, step, schedule, [{"loss": 1.25}], [])
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: htcl\n") and "# HTCL stage2: Llibre de música" in card
    for line in (
        "| made from | stage1 abc, pairs def |",
        "| last logged loss | 1.2500 |",
        "| steps | 20, of 4 samples |",
    ):
        assert line in card
    assert f"| artifact key | {step.key} |" in card
