"""A rank says where it is, shows its stacks when a step stalls, and at last ends itself."""

import socket
import time
from types import SimpleNamespace

import pytest

from htcl.logs import LogLine
from htcl.training import liveness
from htcl.training.liveness import ALIVE, EXIT_STALLED, MARGIN_SECONDS, PATIENCE, Liveness

STALL = 100
ENDED = STALL + MARGIN_SECONDS


@pytest.fixture
def watch(monkeypatch):
    """The clock, the stacks that were shown and the codes that the process would have left with."""
    watch = SimpleNamespace(now=0.0, looks=0, stacks=[], codes=[])

    def monotonic():
        watch.looks += 1
        return watch.now

    monkeypatch.setattr(liveness, "PULSE_SECONDS", 0.005)
    monkeypatch.setattr(liveness, "time", SimpleNamespace(monotonic=monotonic))
    monkeypatch.setattr(liveness.faulthandler, "dump_traceback", lambda all_threads: watch.stacks.append(""))
    monkeypatch.setattr(liveness.os, "_exit", watch.codes.append)
    return watch


def look(watch, seconds=0.0):
    """Let time pass and the thread look at it twice."""
    watch.now += seconds
    before, deadline = watch.looks, time.monotonic() + 60
    while watch.looks < before + 3:
        assert time.monotonic() < deadline, "the thread does not look"
        time.sleep(0.002)


def pulses(logged):
    return [line.fields for line in logged if line.message == ALIVE]


def test_pulses_say_who_and_where_a_rank_is(logged, watch):
    rank = Liveness(3, STALL, pulses=True)
    with rank.watched():
        look(watch)
        rank.at(7, "backward", 2)
        look(watch)
    first, last = pulses(logged)[0], pulses(logged)[-1]
    assert (first["rank"], first["host"]) == ("3", socket.gethostname())
    assert (first["global_step"], first["phase"]) == ("0", "start")
    assert (last["global_step"], last["phase"], last["part"]) == ("7", "backward", "2")


def test_the_pulses_end_with_the_block(logged, watch):
    with Liveness(0, STALL, pulses=True).watched():
        look(watch)
    count = len(logged)
    time.sleep(0.05)
    assert len(logged) == count > 0


def test_under_a_scheduler_nobody_reads_pulses(logged, watch):
    with Liveness(0, STALL, pulses=False).watched():
        look(watch)
    assert logged == []


def test_the_stacks_of_a_stalled_phase_are_shown_once(logged, watch):
    rank = Liveness(2, STALL, pulses=False)
    with rank.watched():
        rank.at(4, "exchange")
        look(watch, STALL / 2)
        assert watch.stacks == [] == logged
        look(watch, 2)
        look(watch, 2)
        assert watch.stacks == [""]
        rank.at(4, "backward")
        look(watch, STALL / 2)
        assert watch.stacks == [""]
        look(watch, 2)
        look(watch, 2)
        assert watch.stacks == ["", ""]
    host = socket.gethostname()
    assert [(line.level, line.message) for line in logged] == [
        ("info", f"rank 2 on host {host} stalls after step 4 in exchange: 52 s; the stacks of its threads follow"),
        ("info", f"rank 2 on host {host} stalls after step 4 in backward: 52 s; the stacks of its threads follow"),
    ]


@pytest.mark.parametrize("pulsing", [True, False])
def test_a_rank_that_stalls_ends_itself(logged, watch, pulsing):
    rank = Liveness(2, STALL, pulsing)
    with rank.watched():
        rank.at(4, "update")
        look(watch, ENDED)
        assert watch.codes == []
        look(watch, 1)
    assert set(watch.codes) == {EXIT_STALLED}
    host = socket.gethostname()
    sentence = f"rank 2 on host {host} stalls after step 4 in update: {ENDED + 1:.0f} s"
    assert logged[-1] == LogLine(
        "error", "training", sentence, {"rank": "2", "host": host, "ends": "True", "passing": "True"}
    )


@pytest.mark.parametrize("phase", ["start", "checkpoint", "save"])
def test_loading_and_saving_may_take_longer(logged, watch, phase):
    rank = Liveness(0, STALL, pulses=True)
    with rank.watched():
        rank.at(4, phase)
        look(watch, PATIENCE * STALL / 2)
        assert watch.stacks == watch.codes == []
        assert {line.message for line in logged} == {ALIVE}
        look(watch, PATIENCE * STALL / 2 + MARGIN_SECONDS)
        assert watch.stacks == [""] and watch.codes == []
        look(watch, 1)
    assert set(watch.codes) == {EXIT_STALLED}


def test_a_rank_that_gets_on_is_left_alone(logged, watch):
    rank = Liveness(0, STALL, pulses=True)
    with rank.watched():
        for step in range(5):
            for phase in liveness.STEP_PHASES:
                rank.at(step, phase)
                look(watch, STALL / 2)
    assert watch.stacks == watch.codes == []
