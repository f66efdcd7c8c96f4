"""A file that crashes, hangs or overwhelms its decoder costs that file alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from htcl.audio.decode import AudioRejected, RejectReason, decode_audio
from htcl.audio.isolated import IsolatedDecoder, Limits
from htcl.errors import HTCLError
from tests.long_audio import peak_mb, sparse_wav

from .conftest import Writer, chirp

TARGET = "tests.unit.audio.targets:misbehave"


@pytest.fixture
def song(write_audio: Writer) -> Path:
    return write_audio("flac", chirp(3.0, 44_100))


@pytest.fixture
def decoder() -> Iterator[IsolatedDecoder]:
    decoder = IsolatedDecoder(Limits(seconds=20, memory_mb=512), TARGET)
    yield decoder
    decoder.close()


def decode(decoder: IsolatedDecoder, path: Path):
    decoder.submit(str(path))
    return decoder.result()


def named(song: Path, name: str) -> Path:
    return shutil.copy(song, song.with_name(f"{name}-song.flac"))


def test_samples_are_those_of_decoding_here(decoder: IsolatedDecoder, song: Path) -> None:
    decoder.submit(str(song), sample_rate=8_000, max_seconds=2.5)
    ours, theirs = decoder.result(), decode_audio(song, sample_rate=8_000, max_seconds=2.5)
    np.testing.assert_array_equal(ours.samples, theirs.samples)
    assert (ours.sample_rate, ours.seconds, ours.warnings) == (8_000, 2.5, theirs.warnings)
    decoder.submit(str(song), expected_seconds=10.0)
    assert decoder.result().warnings == decode_audio(song, expected_seconds=10.0).warnings != ()


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("crash", RejectReason.DECODER_CRASH, "ended by SIGSEGV"),
        ("exit", RejectReason.DECODER_CRASH, "exit code 3"),
        ("bug", RejectReason.DECODER_CRASH, "ValueError: unexpected"),
        ("bomb", RejectReason.MEMORY_LIMIT, "audio.decode_memory_mb = 512"),
    ],
)
def test_one_bad_file_costs_one_file(
    decoder: IsolatedDecoder, song: Path, name: str, reason: RejectReason, words: str
) -> None:
    for _ in range(2):  # the first time by a fresh child, then by one that was at work
        with pytest.raises(AudioRejected) as caught:
            decode(decoder, named(song, name))
        assert caught.value.reason == reason
        assert words in caught.value.detail
        assert decode(decoder, song).seconds == 3.0


def test_a_hang_ends_at_the_limit(song: Path) -> None:
    decoder = IsolatedDecoder(Limits(seconds=1.5, memory_mb=512), TARGET)
    assert decode(decoder, song).seconds == 3.0
    before = decoder.pid
    with pytest.raises(AudioRejected, match=r"time_limit: .*audio.decode_seconds = 1.5"):
        decode(decoder, named(song, "hang"))
    assert before is not None and not psutil.pid_exists(before)
    assert decode(decoder, song).seconds == 3.0
    decoder.close()


def test_a_result_that_is_taken_late_was_no_hang(song: Path) -> None:
    decoder = IsolatedDecoder(Limits(seconds=1.0, memory_mb=512), TARGET)
    decoder.submit(str(song))
    time.sleep(1.5)
    assert decoder.result().seconds == 3.0
    decoder.close()


def test_memory_that_earlier_files_took_condemns_no_file(decoder: IsolatedDecoder, song: Path) -> None:
    leak = named(song, "leak")
    assert decode(decoder, leak).seconds == 3.0
    first = decoder.pid
    assert decode(decoder, leak).seconds == 3.0  # what the first call left does not fit twice
    assert decoder.pid != first


def test_a_child_that_was_killed_from_outside_costs_nothing(decoder: IsolatedDecoder, song: Path) -> None:
    decode(decoder, song)
    assert decoder.pid is not None
    os.kill(decoder.pid, signal.SIGKILL)
    assert decode(decoder, song).seconds == 3.0


def test_failing_storage_is_no_fault_of_the_file(decoder: IsolatedDecoder, song: Path) -> None:
    with pytest.raises(OSError, match="the storage hung up"):
        decode(decoder, named(song, "network"))
    assert decode(decoder, song).seconds == 3.0


def test_what_a_library_prints_is_no_reply(decoder: IsolatedDecoder, song: Path) -> None:
    assert decode(decoder, named(song, "chatty")).seconds == 3.0


def test_a_file_whose_result_nobody_took_is_given_up(decoder: IsolatedDecoder, song: Path) -> None:
    decoder.submit(str(named(song, "hang")))
    assert decode(decoder, song).seconds == 3.0


def test_a_decoder_that_cannot_start_says_so() -> None:
    decoder = IsolatedDecoder(Limits(seconds=1, memory_mb=512), "tests.unit.audio.targets:nothing")
    with pytest.raises(HTCLError, match="does not start"):
        decoder.submit("song.wav")


def test_the_child_ends_with_its_parent(song: Path) -> None:
    code = (
        "import sys; from htcl.audio.isolated import IsolatedDecoder, Limits\n"
        f"decoder = IsolatedDecoder(Limits(600, 512), {TARGET!r}); decoder.submit(sys.argv[1])\n"
        "print(decoder.pid, flush=True); decoder.result()"
    )
    command = [sys.executable, "-c", code, str(named(song, "hang"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(timeout=60)


def test_ten_hours_take_the_memory_of_two_minutes(decoder: IsolatedDecoder, tmp_path: Path) -> None:
    peaks = []
    for seconds in (120, 36_000):
        decode(decoder, sparse_wav(tmp_path / f"{seconds}.wav", seconds))
        peaks.append(peak_mb(decoder))
        decoder.close()
    assert peaks[1] < peaks[0] + 16
