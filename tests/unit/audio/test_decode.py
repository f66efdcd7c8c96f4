"""Good files: every format, mixing, bounds."""

import io
import subprocess
import sys
import time

import numpy as np
import pytest

from htcl.audio.decode import decode_audio

from .conftest import FORMATS, Writer, chirp


def best_correlation(decoded: np.ndarray, source: np.ndarray) -> float:
    """Of the first two seconds, at the best shift: a codec's delay may remain (less than two MP3 frames)."""
    part = source[:32_000]
    products = np.correlate(decoded[: len(part) + 1200], part)
    return float(products.max() / np.sum(part**2))


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_format_gives_back_the_source(suffix: str, write_audio: Writer) -> None:
    path = write_audio(suffix, chirp(4.0, FORMATS[suffix][3]))
    decoded = decode_audio(path, expected_seconds=4.0)
    assert decoded.samples.dtype == np.float32
    assert decoded.sample_rate == 16_000
    assert decoded.seconds == len(decoded.samples) / 16_000 == pytest.approx(4.0, abs=0.1)
    assert decoded.warnings == ()
    # LAME's presets scale by 0.95.
    assert best_correlation(decoded.samples, chirp(4.0, 16_000)) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_mixed_to_their_mean(channels: int, write_audio: Writer) -> None:
    source = chirp(3.0, 44_100)
    same = decode_audio(write_audio("wav", np.tile(source, (channels, 1)), "same")).samples[800:-800]
    assert np.abs(same).max() == pytest.approx(0.5, abs=0.01)
    silent_right = decode_audio(write_audio("wav", np.stack([source, 0 * source]), "left")).samples[800:-800]
    assert np.abs(silent_right).max() == pytest.approx(0.25, abs=0.01)


def test_decodes_from_an_open_file_and_a_uri(write_audio: Writer) -> None:
    path = write_audio("ogg", chirp(3.0, 44_100))
    from_path = decode_audio(path).samples
    file = io.BytesIO(path.read_bytes())
    file.seek(100)
    np.testing.assert_array_equal(decode_audio(file).samples, from_path)
    assert not file.closed
    np.testing.assert_array_equal(decode_audio(f"file://{path}").samples, from_path)


def test_decoding_is_deterministic(write_audio: Writer) -> None:
    path = write_audio("mp3", chirp(3.0, 44_100))
    np.testing.assert_array_equal(decode_audio(path).samples, decode_audio(path).samples)


class CountingFile(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_a_long_file_costs_only_its_start(write_audio: Writer) -> None:
    minute = chirp(60.0, 44_100)
    data = write_audio("flac", np.tile(minute, 20)).read_bytes()
    file = CountingFile(data)
    start = time.process_time()
    decoded = decode_audio(file, expected_seconds=1200.0)
    assert time.process_time() - start < 2.0
    assert decoded.seconds == 120.0
    assert file.count < 0.15 * len(data)


def test_other_limits_and_rates(write_audio: Writer) -> None:
    path = write_audio("wav", chirp(5.0, 44_100))
    decoded = decode_audio(path, sample_rate=8_000, max_seconds=2.5, expected_seconds=5.0)
    assert (len(decoded.samples), decoded.seconds) == (20_000, 2.5)


def test_a_long_tag_before_the_audio_is_skipped(write_audio: Writer) -> None:
    mp3 = write_audio("mp3", chirp(3.0, 44_100)).read_bytes()
    padding = 100_000
    size = bytes(padding >> shift & 0x7F for shift in (21, 14, 7, 0))
    tagged = b"ID3\x04\x00\x00" + size + bytes(padding) + mp3
    assert decode_audio(io.BytesIO(tagged)).warnings == ()


def test_storage_errors_are_not_taken_for_bad_files(write_audio: Writer) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 20_000:
                raise ConnectionResetError("storage went away")
            return super().read(size)

    data = write_audio("wav", chirp(5.0, 44_100)).read_bytes()
    with pytest.raises(ConnectionResetError):
        decode_audio(Failing(data))


def test_import_costs_no_torch() -> None:
    code = "import sys, htcl.audio.decode; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
