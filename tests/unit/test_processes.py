import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from htcl import processes
from htcl.errors import HTCLError
from htcl.processes import run_process


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def await_end(pids, seconds=5.0):
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [pid for pid in pids if alive(pid)]


def shell(script, on_line=lambda line: None, **arguments):
    return run_process(["sh", "-c", script], on_line, **arguments)


def test_lines_exit_code_and_tail_are_handed_over(tmp_path):
    lines = []
    code, tail = shell("echo one; echo two >&2; echo $WORD; pwd; exit 3", lines.append, env={"WORD": "x"}, cwd=tmp_path)
    assert code == 3
    assert lines == tail == ["one", "two", "x", str(tmp_path)]


def test_the_tail_is_the_last_40_lines():
    lines = []
    _, tail = shell("seq 100", lines.append)
    assert len(lines) == 100
    assert tail == [str(n) for n in range(61, 101)]


def test_a_line_is_seen_as_it_comes_and_bytes_that_are_no_text_do_no_harm():
    started, seen = time.monotonic(), []
    shell("printf 'a\\377b\\n'; sleep 0.6", lambda line: seen.append((line, time.monotonic() - started)))
    assert [line for line, _ in seen] == ["a\ufffdb"]
    assert seen[0][1] < 0.5


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_error_while_reading_ends_grandchildren_too(error):
    pids = []

    def on_line(line):
        pids.extend(int(word) for word in line.split())
        raise error

    with pytest.raises(error):
        shell("sleep 100 & a=$!; sleep 100 & echo $$ $a $!; wait", on_line)
    assert len(pids) == 3
    assert await_end(pids) == []


def test_a_process_that_ignores_sigterm_is_killed():
    pids = []

    def on_line(line):
        pids.append(int(line))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shell("trap '' TERM; echo $$; while :; do sleep 0.1; done", on_line)
    assert await_end(pids) == []


def test_orphans_of_a_launcher_that_died_are_ended_and_not_waited_for():
    pids, started = [], time.monotonic()
    code, _ = shell("sleep 100 & echo $!; exit 7", lambda line: pids.append(int(line)))
    assert code == 7
    assert time.monotonic() - started < 5
    assert await_end(pids) == []


def test_a_killed_child_has_the_code_of_its_signal():
    assert shell("kill -9 $$")[0] == -9


def test_a_program_that_is_not_there_is_one_sentence():
    with pytest.raises(HTCLError, match="cannot start no-such-program: No such file"):
        run_process(["no-such-program"], print)


def test_live_sessions_of_other_threads_can_be_ended():
    script = (
        "import threading, time, sys\n"
        "from htcl.processes import end_live_sessions, run_process\n"
        "seen = threading.Event()\n"
        "def run():\n"
        "    code, _ = run_process(['sh', '-c', 'echo; sleep 100'], lambda line: seen.set())\n"
        "    print(code)\n"
        "thread = threading.Thread(target=run); thread.start(); seen.wait(10)\n"
        "end_live_sessions(); thread.join(5); print(thread.is_alive())\n"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert child.stdout.split() == ["-15", "False"]


def test_the_child_leads_a_session_of_its_own():
    lines = []
    shell("ps -o sid= -p $$; echo $$", lines.append)
    assert lines[0].strip() == lines[1]
    assert int(lines[1]) != os.getsid(0)
