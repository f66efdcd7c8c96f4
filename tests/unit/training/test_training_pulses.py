"""From the places of all ranks it follows which one the others wait for."""

import re
from types import SimpleNamespace

import pytest

from htcl.training import pulses
from htcl.training.liveness import PATIENCE, STEP_PHASES, Place
from htcl.training.pulses import Pulses

STALL = 60


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(pulses, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Ranks:
    """Ranks on hosts h0, h1, … whose places a test sets; every second each that is not silent says its own."""

    def __init__(self, clock, *places, stall=STALL):
        self.pulses, self.clock = Pulses(stall, [f"h{rank}" for rank in range(len(places))]), clock
        self.places, self.silent, self.part = dict(enumerate(places)), set(), 0

    def live(self, seconds):
        for _ in range(seconds):
            for rank in self.places.keys() - self.silent:
                step, phase = self.places[rank]
                fields = {"rank": str(rank), "host": f"h{rank}", "pid": "1", "global_step": str(step), "phase": phase}
                fields["part"] = str(self.part)
                self.pulses.note(fields)
            self.clock.now += 1
        return self.pulses.stalled()


def test_a_rank_that_is_never_heard_of_is_named_with_its_host(clock):
    """Its host hangs before it starts, and the others wait for it in vain."""
    ranks = Ranks(clock, (0, "start"), (0, "start"))
    ranks.silent = {1}
    assert ranks.live(PATIENCE * STALL) is None
    assert ranks.live(2).startswith(f"rank 1 on host h1 is silent for {PATIENCE * STALL + 2} s, after step 0 in start;")


def test_nothing_stalls_while_places_change(clock):
    ranks = Ranks(clock, (0, "data"), (0, "data"))
    for step in range(5):
        for phase in STEP_PHASES:
            ranks.places = {0: (step, phase), 1: (step, phase)}
            assert ranks.live(STALL - 5) is None


def test_the_same_phase_of_the_next_step_is_another_place(clock):
    ranks = Ranks(clock, (3, "data"))
    assert ranks.live(STALL - 5) is None
    ranks.places[0] = (4, "data")
    assert ranks.live(STALL - 5) is None
    assert "after step 4 in data" in ranks.live(10)


@pytest.mark.parametrize("phase", STEP_PHASES)
def test_every_phase_of_a_step_is_bounded(clock, phase):
    ranks = Ranks(clock, (4, phase))
    assert ranks.live(STALL) is None
    assert ranks.live(2) == (
        f"rank 0 on host h0 does not get on for 62 s, after step 4 in {phase}; "
        f"training.stall_seconds = {STALL} bounds that"
    )


@pytest.mark.parametrize("phase", ["start", "checkpoint", "save"])
def test_a_phase_outside_a_step_may_last_longer(clock, phase):
    ranks = Ranks(clock, (0, phase))
    assert ranks.live(PATIENCE * STALL) is None
    assert ranks.live(2).startswith(f"rank 0 on host h0 does not get on for {PATIENCE * STALL + 2} s")


@pytest.mark.parametrize("phase", ["start", "checkpoint"])
def test_silence_outside_a_step_may_last_longer_too(clock, phase):
    """What loads there may keep a rank from pulsing."""
    ranks = Ranks(clock, (0, phase), (0, phase))
    ranks.live(1)
    ranks.silent = {1}
    assert ranks.live(PATIENCE * STALL - 1) is None
    assert re.match(rf"rank 1 on host h1 is silent for \d+ s, after step 0 in {phase};", ranks.live(3))


def test_who_has_nothing_to_save_may_be_silent_while_rank_0_saves(clock):
    ranks = Ranks(clock, (9, "save"), (9, "save"))
    ranks.live(1)
    ranks.silent = {1}
    assert ranks.live(3 * STALL) is None
    ranks.silent = {0, 1}
    assert "rank 0 on host h0 is silent" in ranks.live(PATIENCE * STALL)


def test_another_micro_batch_is_another_place(clock):
    ranks = Ranks(clock, (3, "backward"))
    for part in range(4):
        ranks.part = part
        assert ranks.live(STALL - 5) is None
    assert "after step 3 in backward of micro-batch 3" in ranks.live(10)


@pytest.mark.parametrize("place", [(7, "data"), (7, "exchange"), (7, "update"), (8, "data")])
def test_a_silent_rank_is_named_though_others_wait_longer(clock, place):
    ranks = Ranks(clock, (7, "exchange"), place, (7, "exchange"))
    assert ranks.live(STALL - 20) is None
    ranks.silent = {1}
    assert re.match(r"rank 1 on host h1 is silent for \d+ s, after step [78] in", ranks.live(22))


def test_a_rank_whose_last_pulses_are_late_is_not_silent(clock):
    ranks = Ranks(clock, (7, "exchange"), (7, "update"), (7, "exchange"))
    assert ranks.live(STALL - 5) is None
    ranks.silent = {1}
    assert "rank 0 on host h0 does not get on" in ranks.live(7)


def test_a_rank_that_is_heard_again_is_not_silent(clock):
    ranks = Ranks(clock, (7, "exchange"), (7, "backward"))
    ranks.live(1)
    ranks.silent = {1}
    assert ranks.live(STALL - 5) is None
    ranks.silent = set()
    assert "rank 0 on host h0 does not get on" in ranks.live(7)


@pytest.mark.parametrize(
    ("places", "rank"),
    [
        ([(5, "exchange"), (5, "exchange"), (5, "data")], 2),
        ([(5, "data"), (4, "update"), (5, "data")], 1),
        ([(5, "exchange"), (5, "exchange"), (5, "backward")], 0),
        ([(5, "exchange"), (5, "checkpoint"), (5, "data")], 1),
        ([(9, "data"), (9, "data"), (10, "save")], 0),
        ([(0, "exchange"), (0, "start")], 1),
    ],
)
def test_when_all_are_heard_the_one_furthest_behind_is_named(clock, places, rank):
    ranks = Ranks(clock, *places)
    assert ranks.live(STALL) is None
    step, phase = places[rank]
    assert ranks.live(2).startswith(
        f"rank {rank} on host h{rank} does not get on for 62 s, after step {step} in {phase};"
    )


def test_a_limit_below_the_usual_silence_bounds_silence_too(clock):
    ranks = Ranks(clock, (7, "exchange"), (7, "update"), stall=5)
    ranks.live(1)
    ranks.silent = {1}
    assert ranks.live(4) is None
    assert ranks.live(2).startswith("rank 1 on host h1 is silent for 7 s")


def test_places_are_ordered_by_step_then_phase():
    places = [Place(3, "update"), Place(4, "checkpoint"), *(Place(4, phase) for phase in STEP_PHASES), Place(5, "data")]
    progress = [place.progress for place in places]
    assert progress == sorted(set(progress))
    assert [place.patience for place in places[:3]] == [1, PATIENCE, 1]
