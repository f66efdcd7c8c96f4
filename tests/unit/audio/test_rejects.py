"""Bad files: each kind gets its own reason, whatever the format."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from htcl.audio import source
from htcl.audio.decode import AudioRejected, RejectReason, decode_audio

from .conftest import FORMATS, Writer, chirp

COMPRESSED = [suffix for suffix in FORMATS if suffix != "wav"]


def reason_of(data: bytes | Path, expected_seconds: float | None = None) -> RejectReason:
    with pytest.raises(AudioRejected) as caught:
        decode_audio(io.BytesIO(data) if isinstance(data, bytes) else data, expected_seconds=expected_seconds)
    assert caught.value.detail
    return caught.value.reason


def wav(
    samples: np.ndarray,
    rate: int = 16_000,
    channels: int = 1,
    data_bytes: int | None = None,
    *,
    is_float: bool = False,
) -> bytes:
    """A WAV file by hand, so that its header can lie."""
    data = samples.astype("<f4" if is_float else "<i2").tobytes()
    width = 4 if is_float else 2
    block = channels * width
    fmt = struct.pack("<HHIIHH", 3 if is_float else 1, channels, rate, rate * block % 2**32, block, 8 * width)
    claimed = len(data) if data_bytes is None else data_bytes
    return (
        struct.pack("<4sI4s4sI", b"RIFF", 0xFFFFFFFF & (36 + claimed), b"WAVE", b"fmt ", 16)
        + fmt
        + struct.pack("<4sI", b"data", claimed)
        + data
    )


def tone(seconds: float) -> np.ndarray:
    return chirp(seconds, 16_000) * 32767


def test_empty() -> None:
    assert reason_of(b"") == RejectReason.EMPTY
    assert reason_of(wav(np.zeros(0))) == RejectReason.EMPTY


@pytest.mark.parametrize("data", [b"plain text\n" * 500, b"\x89PNG\r\n\x1a\n" + os.urandom(20_000), b"x"])
def test_not_audio(data: bytes) -> None:
    assert reason_of(data) == RejectReason.NOT_AUDIO


@pytest.mark.parametrize("signature", [b"FORM", b"\x1a\x45\xdf\xa3", b"caff"])
def test_unsupported_format(signature: bytes) -> None:
    assert reason_of(signature + bytes(5000)) == RejectReason.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("suffix", ["flac", "ogg", "opus"])
def test_corrupt_header_where_the_signature_is_destroyed(suffix: str, write_audio: Writer) -> None:
    data = write_audio(suffix, chirp(5.0, FORMATS[suffix][3])).read_bytes()
    assert reason_of(np.random.default_rng(0).bytes(20) + data[20:]) == RejectReason.CORRUPT_HEADER


def test_corrupt_header_where_fields_are_wrong() -> None:
    assert reason_of(wav(tone(3), channels=0)) == RejectReason.CORRUPT_HEADER
    assert reason_of(wav(tone(3)).replace(b"fmt ", b"fmX ")) == RejectReason.CORRUPT_HEADER
    assert reason_of(b"fLaC" + bytes(3000)) == RejectReason.CORRUPT_HEADER


@pytest.mark.parametrize("rate", [0, 1, 4_000_000_000])
def test_absurd_sample_rate(rate: int) -> None:
    assert reason_of(wav(tone(3), rate=rate)) == RejectReason.ABSURD_SAMPLE_RATE


def test_huge_claimed_length() -> None:
    assert reason_of(wav(tone(1), data_bytes=0xFFFFFF00)) == RejectReason.HUGE_CLAIMED_LENGTH


@pytest.mark.parametrize("unknown", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_claims_nothing(unknown: int) -> None:
    assert decode_audio(io.BytesIO(wav(tone(3), data_bytes=unknown))).seconds == 3.0


@pytest.mark.parametrize("suffix", FORMATS)
def test_truncated(suffix: str, write_audio: Writer) -> None:
    data = write_audio(suffix, chirp(10.0, FORMATS[suffix][3])).read_bytes()
    cut = data[: len(data) // 2]
    assert reason_of(cut) == RejectReason.TRUNCATED
    assert reason_of(cut, expected_seconds=10.0) == RejectReason.TRUNCATED


def test_truncated_with_the_index_in_front(write_audio: Writer) -> None:
    path = write_audio("m4a", chirp(10.0, 44_100), muxer_options={"movflags": "faststart"})
    data = path.read_bytes()
    assert reason_of(data[: len(data) // 2]) == RejectReason.TRUNCATED


def test_without_a_stated_length_the_catalog_decides(write_audio: Writer) -> None:
    path = write_audio("mp3", chirp(10.0, 44_100), muxer_options={"write_xing": "0"})
    cut = path.read_bytes()[: path.stat().st_size // 2]
    assert decode_audio(io.BytesIO(cut)).seconds == pytest.approx(5.0, abs=0.2)
    assert reason_of(cut, expected_seconds=10.0) == RejectReason.TRUNCATED


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_wrong_catalog_duration_rejects_no_whole_file(suffix: str, write_audio: Writer) -> None:
    path = write_audio(suffix, chirp(4.0, FORMATS[suffix][3]))
    assert decode_audio(path, expected_seconds=4.8).warnings == ()
    (warning,) = decode_audio(path, expected_seconds=30.0).warnings
    assert warning.startswith("duration_mismatch: ")


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_zero_bytes_in_middle(suffix: str, write_audio: Writer) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, FORMATS[suffix][3] * 10).astype(np.float32)
    data = write_audio(suffix, noise).read_bytes()
    fifth = len(data) // 5
    assert reason_of(data[: 2 * fifth] + bytes(fifth) + data[3 * fifth :]) == RejectReason.ZERO_BYTES_IN_MIDDLE


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_pause_in_the_music_is_not_a_hole(suffix: str, write_audio: Writer) -> None:
    rate = FORMATS[suffix][3]
    with_pause = np.concatenate([chirp(2.0, rate), np.zeros(5 * rate, np.float32), chirp(2.0, rate)])
    assert decode_audio(write_audio(suffix, with_pause), expected_seconds=9.0).warnings == ()


def test_damage_that_costs_little_is_a_warning_and_much_is_a_reject(write_audio: Writer) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 441_000).astype(np.float32)
    data = bytearray(write_audio("m4a", noise).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1000] = os.urandom(1000)
    (warning,) = decode_audio(io.BytesIO(data), expected_seconds=10.0).warnings
    assert warning.startswith("damaged_packets: ")
    data[len(data) // 4 : 3 * len(data) // 4] = os.urandom(len(data) // 2)
    assert reason_of(bytes(data), expected_seconds=10.0) in {
        RejectReason.DECODE_ERROR,
        RejectReason.TRUNCATED,
    }


def test_non_finite_samples() -> None:
    samples = chirp(5.0, 16_000)
    samples[100] = np.inf
    decoded = decode_audio(io.BytesIO(wav(samples, is_float=True)))
    assert np.isfinite(decoded.samples).all()
    assert decoded.warnings == ("non_finite_samples: 1 of 80000 set to 0",)
    samples[20_000:36_000] = np.nan
    assert reason_of(wav(samples, is_float=True)) == RejectReason.NAN_WAV


def test_silent_too_short_clipped() -> None:
    assert reason_of(wav(np.zeros(48_000))) == RejectReason.SILENT
    assert reason_of(wav(tone(1.9)), expected_seconds=15.0) == RejectReason.TOO_SHORT
    (warning,) = decode_audio(io.BytesIO(wav(np.sign(tone(3)) * 32767))).warnings
    assert warning.startswith("clipped: ")


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "nothing.ogg") == RejectReason.MISSING_FILE
    assert reason_of(tmp_path) == RejectReason.UNREADABLE
    os.mkfifo(tmp_path / "pipe.ogg")
    assert reason_of(tmp_path / "pipe.ogg") == RejectReason.UNREADABLE


def test_endless_garbage_is_given_up(monkeypatch: pytest.MonkeyPatch, write_audio: Writer) -> None:
    monkeypatch.setattr(source, "MAX_BYTES_WITHOUT_SOUND", 2**20)
    start = write_audio("mp3", chirp(3.0, 44_100), muxer_options={"write_xing": "0"}).read_bytes()
    assert reason_of(start + b"\x55" * 2**23) == RejectReason.DECODE_ERROR


@pytest.mark.parametrize("suffix", FORMATS)
def test_random_damage_never_raises_anything_else(suffix: str, write_audio: Writer) -> None:
    data = write_audio(suffix, chirp(3.0, FORMATS[suffix][3])).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(10):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 2000), 10):
            damaged[at] = rng.integers(0, 256)
        try:
            decode_audio(io.BytesIO(damaged), expected_seconds=3.0)
        except AudioRejected as rejected:
            assert rejected.detail
