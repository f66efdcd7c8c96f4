"""An agent's ranks live as long as they are wanted and none of them fails; nothing is left of them afterwards."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from htcl.logs import parse_line
from htcl.training.agent import Job

from ..test_processes import alive, await_end

RANK = """
import json, os, signal, sys, time
work = json.loads(sys.stdin.readline())
rank = int(os.environ["RANK"])
signal.alarm(50)  # whatever a test finds, nothing stays
def say(line):
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()
def leave_on_sigterm(code):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(code))
def ready():
    say(f"pid {os.getpid()}")
    time.sleep(50)
"""


@pytest.fixture
def agent(tmp_path):
    """Start the agent with a script for its ranks and other values of its constants, without help of the kernel."""
    started = []

    def start(rank, ranks=2, port=29500, kernel=False, grace=1.0, **constants):
        (tmp_path / "rank.py").write_text(RANK + rank)
        values = {"LAST_WORDS_SECONDS": 1.0, "SILENCE_SECONDS": 100.0, **constants}
        values["WORKER"] = ["-u", str(tmp_path / "rank.py")]
        changes = "".join(f"agent.{name} = {value!r}\n" for name, value in values.items())
        changes += "" if kernel else "agent.end_with_parent = lambda *_: None\n"
        return run("-c", f"from htcl.training import agent\n{changes}agent.main()", job_of(ranks, port, grace=grace))

    def run(*arguments):
        *command, job = arguments
        started.append(
            subprocess.Popen(
                [sys.executable, "-u", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        started[-1].stdin.write(job.to_line() if job else "")
        started[-1].stdin.flush()
        return started[-1]

    start.run = run
    yield start
    for process in started:
        process.kill()
        process.communicate()


def job_of(ranks, port=29500, work=None, grace=1.0):
    work = {"recipe": "ü"} if work is None else work
    return Job([*range(4, 4 + ranks)], 9, "alpha", port, grace, {"WORD": "a b"}, work)


def pids_of(process, ranks=2):
    """Wait until all ranks are ready."""
    lines = [process.stdout.readline() for _ in range(ranks)]
    pids = [int(line.rpartition("pid ")[2]) for line in lines]
    assert all(alive(pid) for pid in pids)
    return pids


def lines_of(process):
    """The lines until the agent ends."""
    lines = process.stdout.read().splitlines()
    process.wait(60)
    return lines


def test_a_rank_knows_its_place_and_its_work(agent):
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "WORD"]
    process = agent(f"say(json.dumps([work, *(os.environ[name] for name in {names})]))")
    lines = lines_of(process)
    threads = str(max(os.cpu_count() // 2, 1))
    assert sorted(lines) == [
        f"[rank{rank}]: " + json.dumps([{"recipe": "ü"}, str(rank), place, "9", "alpha", "29500", threads, "a b"])
        for rank, place in ((4, "0"), (5, "1"))
    ]
    assert process.returncode == 0


def test_the_jobs_environment_is_stronger_than_the_hosts(agent, monkeypatch):
    monkeypatch.setenv("WORD", "of the host")
    monkeypatch.setenv("OTHER", "too")
    monkeypatch.setenv("RANK", "77")
    lines = lines_of(agent("say(os.environ['WORD'] + ' ' + os.environ['OTHER'])", ranks=1))
    assert lines == ["[rank4]: a b too"]


def test_the_first_host_announces_the_free_port_that_its_ranks_use(agent):
    first, *lines = lines_of(agent("say(os.environ['MASTER_PORT'])", port=0))
    announced = parse_line(first)
    assert announced.message == "rendezvous" and int(announced.fields["port"]) > 0
    assert sorted(lines) == [f"[rank{rank}]: {announced.fields['port']}" for rank in (4, 5)]


def test_every_line_passes_with_its_rank(agent):
    logged, bare = (f"ts=1 level=info step=training msg={words}" for words in ("alive rank=4", "step"))
    rank = f"say({logged!r}); say({bare!r}); say('ts=1 is no log line'); say('[rank0]: torch')\n"
    rank += "print('to stderr', file=sys.stderr)\n"
    rank += "sys.stdout.buffer.write(b'\\xff no line end'); sys.stdout.flush()"
    assert lines_of(agent(rank, ranks=1)) == [
        logged,
        f"{bare} rank=4",
        "[rank4]: ts=1 is no log line",
        "[rank0]: torch",
        "[rank4]: to stderr",
        "[rank4]: \ufffd no line end",
    ]


def test_a_rank_that_was_killed_is_named_and_the_others_are_ended(agent):
    process = agent("ready()", LAST_WORDS_SECONDS=0.2)
    pids = pids_of(process)
    os.kill(pids[0], signal.SIGKILL)
    (line,) = lines_of(process)
    logged, host = parse_line(line), os.uname().nodename
    killed = logged.fields["rank"]
    assert killed in ("4", "5") and logged.level == "error" and logged.fields["host"] == host
    assert logged.message == f"rank {killed} on host {host} was killed by SIGKILL"
    assert process.returncode == 128 + 9
    assert await_end(pids) == []


def test_a_rank_that_fails_ends_the_others(agent):
    process = agent(
        "say(f'pid {os.getpid()}')\ntime.sleep(50 if rank == 4 else 0.2)\nos._exit(3)", LAST_WORDS_SECONDS=0.2
    )
    pids = [int(line.rpartition("pid ")[2]) for line in lines_of(process)]
    assert process.returncode == 3
    assert len(pids) == 2 and await_end(pids) == []


def test_the_others_have_time_for_last_words(agent):
    """A rank that only lost its connection must not be heard in place of the one that knows the cause."""
    rank = "if rank == 5:\n    open(__file__ + '.failed', 'w'); os._exit(3)\n"
    rank += "while not os.path.exists(__file__ + '.failed'): time.sleep(0.02)\n"
    rank += "time.sleep(0.5); say('the cause')"
    process = agent(rank, LAST_WORDS_SECONDS=20.0)
    assert lines_of(process) == ["[rank4]: the cause"]
    assert process.returncode == 3


def close(process):
    process.stdin.close()
    process.stdin = None


def ask(sign):
    return lambda process: process.send_signal(sign)


ENDS = [
    pytest.param(close, {}, id="stdin closed"),
    pytest.param(ask(signal.SIGTERM), {}, id="SIGTERM"),
    pytest.param(ask(signal.SIGHUP), {}, id="SIGHUP"),
    pytest.param(lambda process: None, {"SILENCE_SECONDS": 2.0}, id="silence"),
]


@pytest.mark.parametrize(("end", "constants"), ENDS)
def test_ranks_that_are_not_wanted_any_more_save_and_leave(agent, end, constants):
    process = agent("leave_on_sigterm(75)\nready()", grace=20.0, **constants)
    pids = pids_of(process)
    end(process)
    assert lines_of(process) == []
    assert process.returncode == 75
    assert await_end(pids) == []


@pytest.mark.parametrize(("end", "constants"), ENDS[:2])
def test_a_rank_that_does_not_leave_is_killed(agent, end, constants):
    rank = "signal.signal(signal.SIGTERM, signal.SIG_IGN) if rank == 4 else leave_on_sigterm(75)\nready()"
    process = agent(rank, grace=0.5, **constants)
    pids = pids_of(process)
    end(process)
    assert lines_of(process) == []
    assert process.returncode == 128 + signal.SIGTERM
    assert await_end(pids) == []


def test_signs_of_life_keep_the_ranks(agent, tmp_path):
    rank = "leave_on_sigterm(75)\nsay('up')\nwhile not os.path.exists(__file__ + '.done'): time.sleep(0.02)\n"
    process = agent(rank + "say('done')", ranks=1, SILENCE_SECONDS=2.0)
    assert process.stdout.readline() == "[rank4]: up\n"
    for _ in range(30):
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(0.1)
    (tmp_path / "rank.py.done").touch()
    assert lines_of(process) == ["[rank4]: done"]
    assert process.returncode == 0


@pytest.mark.parametrize(("rank", "code"), [("", 0), ("os._exit(75)", 75), ("os._exit(75 if rank == 4 else 0)", 75)])
def test_ranks_that_end_by_themselves_decide_the_exit_code(agent, rank, code):
    process = agent(rank)
    assert lines_of(process) == []
    assert process.returncode == code


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells a child of its parent's death")
def test_the_ranks_of_an_agent_that_is_killed_end_too(agent):
    process = agent("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nready()", kernel=True)
    pids = pids_of(process)
    process.kill()
    process.wait()
    assert await_end(pids) == []


def test_without_a_job_an_agent_has_nothing_to_say(agent):
    """The run has ended before this host's turn came: the cause is another's."""
    process = agent.run("-m", "htcl.training.agent", None)
    close(process)
    assert lines_of(process) == []
    assert process.returncode == 0


def test_the_ranks_are_training_workers(agent):
    recipe = {"kind": "stage1", "step_version": 1, "section": {}, "inputs": {}}
    process = agent.run("-m", "htcl.training.agent", job_of(1, work={"config": {"name": "x"}, "recipe": recipe}))
    (logged,) = [found for line in lines_of(process) if (found := parse_line(line))]
    assert (logged.level, logged.fields["rank"]) == ("error", "4") and "exception" not in logged.fields
    assert "workspace" in logged.message
    assert process.returncode == 1
