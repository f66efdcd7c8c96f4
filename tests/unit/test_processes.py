import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from htcl import processes
from htcl.errors import HTCLError
from htcl.processes import (
    GRACE_SECONDS,
    OUTER_GRACE_SECONDS,
    allow_sessions,
    end_live_sessions,
    end_with_parent,
    run_process,
)


@pytest.fixture(autouse=True)
def _open_again():
    yield
    allow_sessions()


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def await_end(pids, seconds=60.0):
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [pid for pid in pids if alive(pid)]


def shell(script, on_line=lambda line: None, **arguments):
    return run_process(["sh", "-c", script], on_line, **{"grace_seconds": 0.2, **arguments})


def test_no_line_that_a_command_prints_has_a_password():
    seen = []
    code, tail = shell("echo View run at http://ann:s3cret@host/x; exit 3", seen.append)
    assert (code, tail, seen) == (3, *[["View run at http://ann:***@host/x"]] * 2)


def in_thread(script, grace_seconds):
    """Start a shell script by run_process in another thread; returns the thread, its results and its first line."""
    results, first, said = [], [], threading.Event()

    def run():
        results.append(shell(script, lambda line: (first.append(line), said.set()), grace_seconds=grace_seconds))

    thread = threading.Thread(target=run)
    thread.start()
    assert said.wait(60)
    return thread, results, int(first[0])


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


def test_a_line_is_seen_as_it_comes_and_bytes_that_are_no_text_do_no_harm(tmp_path):
    seen, mark = [], tmp_path / "seen"
    script = f"printf 'a\\377b\\n'; for i in $(seq 600); do [ -e {mark} ] && exit 0; sleep 0.1; done; exit 1"
    code, _ = shell(script, lambda line: (seen.append(line), mark.touch()))
    assert (code, seen) == (0, ["a\ufffdb"])


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


def test_orphans_of_a_launcher_that_died_are_ended_and_not_waited_for(tmp_path):
    pids, finished = [], tmp_path / "finished"
    code, _ = shell(f"(sleep 100; touch {finished}) & echo $!; exit 7", lambda line: pids.append(int(line)))
    assert code == 7
    assert await_end(pids) == [] and not finished.exists()


def test_a_killed_child_has_the_code_of_its_signal():
    assert shell("kill -9 $$")[0] == -9


def test_a_program_that_is_not_there_is_one_sentence():
    with pytest.raises(HTCLError, match="cannot start no-such-program: No such file"):
        run_process(["no-such-program"], print)


def test_live_sessions_of_other_threads_can_be_ended():
    thread, results, pid = in_thread("echo $$; sleep 100", GRACE_SECONDS)
    end_live_sessions()
    thread.join(60)
    assert not thread.is_alive() and not alive(pid)
    assert [code for code, _ in results] == [-15]


def test_a_leader_that_goes_first_still_has_what_it_started(tmp_path):
    """As a flow that reports its end to the server that it brought along."""
    told = tmp_path / "told"
    ends = f"sleep 0.5; kill -0 $other && touch {told}; exit"
    script = f"sleep 100 & other=$!; trap '{ends}' TERM; echo $other; wait"
    others = []

    def interrupt(line):
        others.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_process(["bash", "-c", script], interrupt, grace_seconds=GRACE_SECONDS, leader_first=True)
    assert told.exists()
    assert await_end(others) == []


def test_live_sessions_are_ended_all_at_once(monkeypatch):
    """Each of them ignores SIGTERM, so that one by one they would take a grace period each."""
    runs = [in_thread("trap '' TERM; echo $$; while :; do sleep 0.1; done", 1.5) for _ in range(3)]
    sent, send = [], processes._signal_group

    def spy(pid, sign):
        if sign and threading.current_thread() is threading.main_thread():
            sent.append(sign)
        return send(pid, sign)

    monkeypatch.setattr(processes, "_signal_group", spy)
    end_live_sessions()
    assert sent == [signal.SIGTERM] * 3 + [signal.SIGKILL] * 3
    for thread, results, pid in runs:
        thread.join(60)
        assert not alive(pid) and results[0][0] == -9


def test_after_the_end_nothing_is_started_until_it_is_allowed_again():
    end_live_sessions()
    lines = []
    with pytest.raises(HTCLError, match="the run is being ended; sh is not started"):
        shell("echo one", lines.append)
    allow_sessions()
    shell("echo two", lines.append)
    assert lines == ["two"]


@pytest.mark.parametrize(("grace", "code"), [(0.2, -9), (5.0, 3)])
def test_the_grace_period_is_the_callers(grace, code):
    """A process that ends others before itself, as a flow does, gets the time for it."""
    thread, results, _ = in_thread("trap 'sleep 1; exit 3' TERM; echo $$; while :; do sleep 0.05; done", grace)
    end_live_sessions()
    thread.join(60)
    assert results[0][0] == code
    assert OUTER_GRACE_SECONDS > GRACE_SECONDS + 2


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells a child of its parent's death")
def test_the_child_of_a_parent_that_is_killed_ends_too():
    script = "from htcl.processes import run_process\n"
    script += "run_process(['sh', '-c', 'echo $$; exec sleep 100'], lambda line: print(line, flush=True))\n"
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.wait()
    assert await_end([pid]) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells a child of its parent's death")
def test_a_child_whose_parent_died_before_it_was_told_so_ends_at_once():
    arrange = end_with_parent(os.getppid())  # not the parent of the child below, as if that had died
    assert subprocess.run(["echo", "ran"], capture_output=True, preexec_fn=arrange, check=False).returncode == 143
    assert subprocess.run(["true"], preexec_fn=end_with_parent(os.getpid()), check=False).returncode == 0


def test_the_child_leads_a_session_of_its_own():
    lines = []
    shell("cut -d ' ' -f 6 /proc/$$/stat; echo $$", lines.append)
    assert lines[0] == lines[1]
    assert int(lines[1]) != os.getsid(0)
