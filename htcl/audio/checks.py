"""Is what was decoded whole, and is it music? General checks of the stream and of the samples."""

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from htcl.audio.containers import Container, OggEnd, WavHeader, mp3_states_length, mp4_cut, ogg_end
from htcl.audio.rejects import AudioRejected, RejectReason
from htcl.audio.source import MAX_BYTES_WITHOUT_SOUND, ZERO_RUN_BYTES, WatchedFile

# A file is whole from this share of the stated or expected duration on; catalogs round, encoders pad.
WHOLE_SHARE = 0.8
# A claim is absurd, not the trace of a cut, if it is this long and this many times what was found.
HUGE_SECONDS, HUGE_RATIO = 3600.0, 100.0
MAX_FAILED_PACKETS_SHARE = 0.1
# -80 dBFS: above the dither of 16-bit silence, below any music.
SILENCE_PEAK = 1e-4
MAX_NON_FINITE_SHARE = 1e-3
FULL_SCALE, CLIPPED_SHARE = 0.999, 0.05


@dataclass
class DecodeReport:
    """What the decoder met on the way.

    Attributes:
        seconds: decoded duration.
        stated_seconds: duration that the container states (for Ogg: the position of the last page), or None.
        first_at, last_at: byte offsets of the first and last packet of audio, where the demuxer tells.
    """

    container: Container
    wav: WavHeader | None
    watched: WatchedFile
    codec: str = ""
    seconds: float = 0.0
    stated_seconds: float | None = None
    packets: int = 0
    failures: int = 0
    last_failure: str = ""
    first_at: int | None = None
    last_at: int | None = None

    def note_packet(self, offset: int | None) -> None:
        """Count a packet that begins `offset` bytes into the file."""
        self.packets += 1
        if offset is not None and offset >= 0:
            self.first_at = offset if self.first_at is None else self.first_at
            self.last_at = offset

    def note_failure(self, error: Exception) -> None:
        """Count a packet that could not be read or decoded."""
        self.failures += 1
        self.last_failure = str(error)


def opening_failed(file: BinaryIO, report: DecodeReport, error: Exception) -> AudioRejected:
    """Say why a file with a known signature does not open."""
    if report.watched.gave_up:
        return _no_sound()
    if report.container is Container.MP4 and (cut := mp4_cut(file)):
        return AudioRejected(RejectReason.TRUNCATED, cut)
    if report.container is Container.OGG and ogg_end(file) is OggEnd.CUT:
        return AudioRejected(RejectReason.TRUNCATED, f"ends inside an Ogg page after {report.watched.bytes_read} bytes")
    return AudioRejected(
        RejectReason.CORRUPT_HEADER, f"signature of {report.container}, but FFmpeg cannot open it: {error}"
    )


def _no_sound() -> AudioRejected:
    return AudioRejected(RejectReason.DECODE_ERROR, f"no sound within {MAX_BYTES_WITHOUT_SOUND} bytes; gave up")


def check_stream(file: BinaryIO, report: DecodeReport, max_seconds: float, expected_seconds: float | None) -> list[str]:
    """Check that the part that was decoded is whole; return warnings.

    Raises:
        AudioRejected: `zero_bytes_in_middle`, `huge_claimed_length`, `truncated`, `decode_error`, `empty`.
    """
    _check_zero_bytes(report)
    if report.watched.gave_up:
        raise _no_sound()
    stated_seconds = _stated_seconds(file, report)
    _check_stated_length(report, stated_seconds, max_seconds)
    if report.failures > max(2, MAX_FAILED_PACKETS_SHARE * report.packets) or (report.failures and not report.seconds):
        raise AudioRejected(
            RejectReason.DECODE_ERROR,
            f"{report.failures} of {report.packets} packets do not decode, {report.seconds:.1f} s did; last: "
            f"{report.last_failure}",
        )
    warnings = []
    if report.failures:
        warnings.append(f"damaged_packets: {report.failures} of {report.packets}; last: {report.last_failure}")
    if report.seconds < max_seconds:
        whole = stated_seconds is not None
        warnings += _check_end(file, report, whole, expected_seconds, max_seconds)
    if not report.seconds:
        raise AudioRejected(RejectReason.EMPTY, f"{report.container} file without a single audio sample")
    return warnings


def _check_zero_bytes(report: DecodeReport) -> None:
    # PCM is zero in every pause; metadata before and after the audio is padded with zeros.
    if report.codec.startswith("pcm_") or report.first_at is None or report.last_at is None:
        return
    holes = [at for at in report.watched.zero_runs if report.first_at <= at < report.last_at]
    if holes:
        raise AudioRejected(
            RejectReason.ZERO_BYTES_IN_MIDDLE,
            f"{ZERO_RUN_BYTES} or more zero bytes in a row from byte {holes[0]} on, inside {report.codec} "
            f"audio (bytes {report.first_at} to {report.last_at}); {report.seconds:.1f} s decoded",
        )


def _stated_seconds(file: BinaryIO, report: DecodeReport) -> float | None:
    """Duration that the file claims; of a WAV by its bytes, as FFmpeg trims the claim to the file's size."""
    if report.container is Container.MP3 and not mp3_states_length(file):
        return None  # FFmpeg guesses from the bit rate of the first frames
    if report.wav is None:
        return report.stated_seconds
    if report.wav.data_bytes is None or report.wav.available_bytes <= 0:
        return None
    return report.seconds * max(1.0, report.wav.data_bytes / report.wav.available_bytes)


def _check_stated_length(report: DecodeReport, stated_seconds: float | None, max_seconds: float) -> None:
    if stated_seconds is None or report.seconds >= WHOLE_SHARE * min(stated_seconds, max_seconds):
        return
    huge = stated_seconds >= max(HUGE_SECONDS, HUGE_RATIO * report.seconds)
    raise AudioRejected(
        RejectReason.HUGE_CLAIMED_LENGTH if huge else RejectReason.TRUNCATED,
        f"{report.container} header claims {stated_seconds:.1f} s, the file holds {report.seconds:.1f} s",
    )


def _check_end(
    file: BinaryIO, report: DecodeReport, whole: bool, expected_seconds: float | None, max_seconds: float
) -> list[str]:
    """Judge a file that ended before `max_seconds`: by its own end mark or length, else by the catalog."""
    seen = f"{report.seconds:.1f} s decoded"
    if report.container is Container.OGG:
        end = ogg_end(file)
        whole = end is OggEnd.MARKED
        seen += f", ends with {end}"
        if end is OggEnd.CUT and expected_seconds is None:
            raise AudioRejected(RejectReason.TRUNCATED, seen)
    if expected_seconds is None or report.seconds >= WHOLE_SHARE * min(expected_seconds, max_seconds):
        return []
    message = f"{seen}, catalog says {expected_seconds:.1f} s"
    if whole:
        return [f"duration_mismatch: {message}"]
    raise AudioRejected(RejectReason.TRUNCATED, message)


def check_content(
    samples: NDArray[np.float32], sample_rate: int, min_seconds: float
) -> tuple[NDArray[np.float32], list[str]]:
    """Check samples [n]; return them with stray non-finite values set to 0, and warnings.

    Raises:
        AudioRejected: `too_short`, `nan_wav`, `silent`.
    """
    seconds = len(samples) / sample_rate
    if seconds < min_seconds:
        raise AudioRejected(RejectReason.TOO_SHORT, f"{seconds:.2f} s of sound, at least {min_seconds:.2f} s needed")
    warnings = []
    bad = int(np.count_nonzero(~np.isfinite(samples)))
    if bad > MAX_NON_FINITE_SHARE * len(samples):
        raise AudioRejected(
            RejectReason.NAN_WAV,
            f"{bad} of {len(samples)} samples are NaN or infinite ({bad / len(samples):.1%})",
        )
    if bad:
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        warnings.append(f"non_finite_samples: {bad} of {len(samples)} set to 0")
    level = np.abs(samples)
    peak = float(level.max())
    if peak < SILENCE_PEAK:
        raise AudioRejected(RejectReason.SILENT, f"peak {peak:.1e} of full scale in {seconds:.1f} s")
    clipped = float(np.mean(level >= FULL_SCALE))
    if clipped >= CLIPPED_SHARE:
        warnings.append(f"{RejectReason.CLIPPED}: {clipped:.1%} of the samples at full scale")
    return samples, warnings
