"""The lease on real files, held by real processes."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from htcl import lease
from htcl.lease import RUN_VARIABLE, await_end_of, lease_holder, workspace_lease

HOLD = """
import subprocess, sys, time
from htcl.lease import workspace_lease
with workspace_lease(sys.argv[1], "nightly", True, lambda: None):
    if sys.argv[2] == "child":
        subprocess.Popen(["sleep", "60"], start_new_session=True)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "STALE_SECONDS", 3.0)


def hold(workspace, what="run", here=True, on_loss=lambda: None):
    return workspace_lease(str(workspace), what, here, on_loss)


def other_process(workspace, children="none"):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workspace), children], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_free_workspace_is_taken_at_once_and_given_back(tmp_path):
    assert lease_holder(str(tmp_path)) is None
    with hold(tmp_path, "nightly"):
        holder = lease_holder(str(tmp_path))
        assert (holder.what, holder.pid) == ("nightly", os.getpid())
        assert os.environ[RUN_VARIABLE] == holder.token
    assert lease_holder(str(tmp_path)) is None
    assert RUN_VARIABLE not in os.environ


def test_a_block_that_fails_gives_it_back(tmp_path):
    with pytest.raises(KeyError), hold(tmp_path):
        raise KeyError
    assert lease_holder(str(tmp_path)) is None


def test_no_two_runs_work_at_once(tmp_path):
    at_work, most = 0, 0
    lock = threading.Lock()

    def work(number):
        nonlocal at_work, most
        with hold(tmp_path, str(number)):
            with lock:
                at_work += 1
                most = max(most, at_work)
            time.sleep(0.05)
            with lock:
                at_work -= 1

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))
    assert most == 1
    assert len(list((tmp_path / "lease").iterdir())) == 1  # what was given back is cleared away


def test_a_holder_at_work_is_waited_for_however_long(tmp_path):
    order = []
    with hold(tmp_path):
        waiting = threading.Thread(target=lambda: [order.append("got it") for _ in [0] if hold_once(tmp_path)])
        waiting.start()
        time.sleep(5.0)  # more than what makes a lease stale
        order.append("still held")
    waiting.join(10)
    assert order == ["still held", "got it"]


def hold_once(workspace):
    with hold(workspace):
        return True


def test_a_holder_that_is_gone_from_this_host_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "STALE_SECONDS", 600.0)
    process = other_process(tmp_path)
    process.kill()
    process.wait()
    with hold(tmp_path, "next"):
        assert lease_holder(str(tmp_path)).what == "next"


def test_what_a_dead_holder_has_started_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "STALE_SECONDS", 600.0)
    process = other_process(tmp_path, "child")
    token = lease_holder(str(tmp_path)).token
    process.kill()
    process.wait()
    waiting = threading.Thread(target=hold_once, args=(tmp_path,))
    waiting.start()
    waiting.join(1.0)
    assert waiting.is_alive()
    for process in Path("/proc").glob("[0-9]*"):
        if marked(process, token):
            os.kill(int(process.name), 9)
    waiting.join(10)
    assert not waiting.is_alive()


def marked(process, token):
    try:
        return f"{RUN_VARIABLE}={token}".encode() in (process / "environ").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("content", ["", "[]", '{"token": 1}'])
def test_a_damaged_lease_is_taken_over_once_it_stands_still(tmp_path, content):
    (tmp_path / "lease").mkdir()
    (tmp_path / "lease" / "00000003.json").write_text(content)
    assert lease_holder(str(tmp_path)).what == "an unreadable lease"
    with hold(tmp_path):
        assert [file.name for file in (tmp_path / "lease").iterdir()] == ["00000004.json"]


def test_a_dead_holder_on_another_host_is_taken_over_once_its_lease_stands_still(tmp_path):
    process = other_process(tmp_path)
    process.kill()
    process.wait()
    (path,) = (tmp_path / "lease").iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "elsewhere boot namespace"}))
    with hold(tmp_path, "next"):
        assert lease_holder(str(tmp_path)).what == "next"


def test_an_answer_that_was_lost_costs_no_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "STALE_SECONDS", 600.0)
    create = lease.storage.create_bytes

    def sent_twice(uri, data):
        create(uri, data)
        return create(uri, data)

    monkeypatch.setattr(lease.storage, "create_bytes", sent_twice)
    with hold(tmp_path, "nightly"):
        assert lease_holder(str(tmp_path)).what == "nightly"


def test_the_end_of_garbage_collection_is_waited_for_and_of_nothing_else(tmp_path):
    with hold(tmp_path, "nightly"):
        await_end_of(str(tmp_path), "gc")
    waiting = threading.Thread(target=await_end_of, args=(str(tmp_path), "gc"))
    with hold(tmp_path, "gc"):
        waiting.start()
        waiting.join(1.0)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_holder_that_was_taken_over_is_told(tmp_path):
    lost = threading.Event()
    with hold(tmp_path, on_loss=lost.set):
        (path,) = (tmp_path / "lease").iterdir()
        path.with_name("00000002.json").write_text(path.read_text())
        assert lost.wait(10)


def test_a_holder_whose_storage_does_not_answer_is_told_before_others_take_over(tmp_path, monkeypatch):
    lost, answers, write = threading.Event(), threading.Event(), lease.storage.write_bytes

    def hang(uri, data):
        answers.wait(30)
        write(uri, data)

    with hold(tmp_path, on_loss=lost.set):
        monkeypatch.setattr(lease.storage, "write_bytes", hang)
        assert lost.wait(10)
        answers.set()


def test_a_clock_that_jumps_does_not_matter(tmp_path, monkeypatch):
    """Neither holder nor waiter compares times of day."""
    with hold(tmp_path):
        (path,) = (tmp_path / "lease").iterdir()
        held = json.loads(path.read_text())
        os.utime(path, (0, 0))
        waiting = threading.Thread(target=hold_once, args=(tmp_path,))
        waiting.start()
        waiting.join(4.0)
        assert waiting.is_alive()
        assert held["since"]
    waiting.join(10)
    assert not waiting.is_alive()
