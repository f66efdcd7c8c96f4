"""Of all that ranks print, one sentence says why they ended."""

import pytest

from htcl.training.cause import Cause

SENTENCE = 'ts=1 level=error step=training msg="stage2: 3 samples do not fill one batch" rank=1 host=b ends=True'
BAD_SHARD = 'ts=1 level=error step=training msg="pairs and shards disagree about the split" rank=1 host=b ends=True'
KILLED = 'ts=3 level=error step=training msg="rank 1 on host b was killed by SIGKILL" rank=1 host=b ends=True'
ARROW = 'ts=1 level=error step=training msg="Invalid: no magic" rank=1 host=b exception=ArrowInvalid ends=True'
PEER = 'ts=2 level=error step=training msg="Connection closed by peer" rank=0 host=a exception=RuntimeError ends=True'
BARE = 'ts=2 level=error step=training msg="" rank=0 host=a exception=AssertionError ends=True'
SHRUG = 'ts=1 level=error step=stage2 msg="MLflow is left out from here on: ConnectionError: refused"'
INFO = 'ts=1 level=info step=training msg="interrupted after step 3" rank=0 host=a'
TRACEBACK = ["Traceback (most recent call last):", '  File "x.py", line 1, in <module>', "    call()"]
BEFORE = "stage2: training ended with exit code 7 before the model was published: "
ENDED = BEFORE + "its ranks on host a ended with exit code 7: the last line"


def cause_of(lines):
    cause = Cause()
    for line in lines:
        cause.read(line)
    return cause


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([*TRACEBACK, "RuntimeError: lost", PEER, SENTENCE, "[rank0]: exits"], SENTENCE.split('"')[1]),
        ([BAD_SHARD, PEER, KILLED], "stage2: pairs and shards disagree about the split"),
        ([PEER, KILLED], "stage2: rank 1 on host b was killed by SIGKILL"),
        ([ARROW, PEER, *TRACEBACK, "RuntimeError: x"], BEFORE + "ArrowInvalid: Invalid: no magic (rank 1 on host b)"),
        ([*TRACEBACK, "RuntimeError: lost", BARE], BEFORE + "AssertionError (rank 0 on host a)"),
        (
            [*TRACEBACK, "pyarrow.lib.ArrowInvalid: no magic", "Time to load op: 1", "Loading: it", "[rank0]: exits"],
            BEFORE + "pyarrow.lib.ArrowInvalid: no magic",
        ),
        (
            [f"[rank1]: {line}" for line in [*TRACEBACK, "torch.OutOfMemoryError: CUDA", "    Error in frame"]],
            BEFORE + "torch.OutOfMemoryError: CUDA",
        ),
        ([*TRACEBACK[:1], *TRACEBACK, "ValueError: one", "KeyError: 'two'", "Note: three"], BEFORE + "KeyError: 'two'"),
        (["Warning: no traceback", "ValueError: quoted", INFO], ENDED),
        ([], ENDED),
    ],
)
def test_the_first_real_cause_is_named(lines, sentence):
    cause = cause_of(lines)
    assert cause.known == (sentence != ENDED)
    cause.ended("a", 7, "the last line")
    cause.ended("b", 1, "another")
    assert cause.describe("stage2", 7) == sentence
    assert cause.known == (sentence != ENDED)


def test_an_error_that_ends_no_rank_is_not_the_cause():
    """A tracker or a checkpoint that is left out is logged as an error too."""
    assert not cause_of([SHRUG]).known
    assert cause_of([SHRUG, PEER]).describe("stage2", 7).endswith("by peer (rank 0 on host a)")
    assert "MLflow" not in cause_of([SHRUG]).describe("stage2", 7)


@pytest.mark.parametrize("lines", [[], [SENTENCE], [ARROW], [*TRACEBACK, "ValueError: one"]])
def test_what_ranks_cannot_know_beats_what_they_say(lines):
    cause = cause_of(lines)
    cause.lost("the connection to host b failed")
    cause.lost("the connection to host a failed")
    cause.ended("a", 7, "the last line")
    assert cause.known
    assert cause.describe("stage2", 7) == "stage2: the connection to host b failed"


def test_a_silent_end_is_said_to_be_one():
    assert Cause().describe("stage1", 0) == (
        "stage1: training ended with exit code 0 before the model was published: nobody said why"
    )
