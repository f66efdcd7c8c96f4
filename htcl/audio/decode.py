"""Decode wav, flac, mp3, ogg, opus and m4a to mono float32, or say why a file cannot be used.

At most `max_seconds` are decoded and only that part of the file is read, so time and memory are bounded
whatever the length of the file. Imports numpy and PyAV only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from htcl.audio.checks import DecodeReport, check_content, check_stream, opening_failed
from htcl.audio.containers import (
    Container,
    WavHeader,
    check_sample_rate,
    file_size,
    identify,
    read_wav_header,
)
from htcl.audio.paths import resolve_audio_path
from htcl.audio.rejects import AudioRejected, RejectReason
from htcl.audio.source import WatchedFile, open_audio

__all__ = ["AudioRejected", "DecodedAudio", "RejectReason", "decode_audio", "resolve_audio_path"]

# How much FFmpeg may read to find the parameters of the codec.
_PROBE_BYTES = 2**20


@dataclass(frozen=True, eq=False)
class DecodedAudio:
    """Mono audio.

    Attributes:
        samples: float32 [n], full scale is 1.0; lossy codecs may overshoot.
        sample_rate: in Hz.
        seconds: duration of `samples`.
        warnings: `name: what was seen`, for files that are used all the same (`clipped`, `duration_mismatch`,
            `damaged_packets`, `non_finite_samples`).
    """

    samples: NDArray[np.float32]
    sample_rate: int
    seconds: float
    warnings: tuple[str, ...]


def decode_audio(
    source: str | Path | BinaryIO,
    *,
    sample_rate: int = 16_000,
    max_seconds: float = 120.0,
    min_seconds: float = 2.0,
    expected_seconds: float | None = None,
) -> DecodedAudio:
    """Decode the first `max_seconds` of a file to mono.

    Channels are mixed with weights that sum to one, so that the mix stays within full scale.

    Args:
        source: local path, fsspec URI, or an open binary file that can seek (read from its start, left open).
        sample_rate: of the result, in Hz.
        max_seconds: decoding stops here.
        min_seconds: a shorter file is rejected as too short.
        expected_seconds: duration in the catalog. It decides whether a file is truncated where the container
            states no length itself (Ogg, MP3 without a frame count); elsewhere a difference is a warning.

    Raises:
        AudioRejected: with the reason and the numbers seen.
        OSError: the storage failed; says nothing about the file.
    """
    with open_audio(source) as file:
        if file_size(file) == 0:
            raise AudioRejected(RejectReason.EMPTY, "0 bytes")
        container = identify(file)
        wav = read_wav_header(file) if container is Container.WAV else None
        try:
            samples, report = _decode(file, container, wav, sample_rate, max_seconds)
        except MemoryError as error:
            raise AudioRejected(RejectReason.MEMORY_LIMIT, f"asks for more memory than there is: {error}") from error
        warnings = check_stream(file, report, max_seconds, expected_seconds)
    samples, more_warnings = check_content(samples, sample_rate, min_seconds)
    return DecodedAudio(samples, sample_rate, len(samples) / sample_rate, (*warnings, *more_warnings))


def _decode(
    file: BinaryIO, container: Container, wav: WavHeader | None, sample_rate: int, max_seconds: float
) -> tuple[NDArray[np.float32], DecodeReport]:
    watched = WatchedFile(file)
    report = DecodeReport(container, wav, watched)
    try:
        opened = av.open(
            watched,
            "r",
            format=container.value,
            options={"probesize": str(_PROBE_BYTES)},
            metadata_errors="replace",  # old tags are often not UTF-8
        )
    except av.MemoryError:
        raise
    except av.FFmpegError as error:
        raise opening_failed(file, report, error) from error
    limit = round(max_seconds * sample_rate)
    blocks: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    decoded = 0
    with opened:
        try:
            for block in _resample(_frames(opened, report), sample_rate):
                watched.sound_found()
                blocks.append(block)
                decoded += len(block)
                if decoded >= limit:
                    break
        except av.MemoryError:
            raise
        except av.FFmpegError as error:
            raise AudioRejected(
                RejectReason.DECODE_ERROR,
                f"{report.codec} audio cannot be mixed to mono at {sample_rate} Hz: {error}",
            ) from error
    report.seconds = min(decoded, limit) / sample_rate
    return np.concatenate(blocks)[:limit], report


def _frames(opened: av.container.InputContainer, report: DecodeReport) -> Iterator[av.AudioFrame]:
    """Yield decoded frames; packets that do not decode are counted in the report and passed over."""
    if not opened.streams.audio:
        kinds = ", ".join(stream.type for stream in opened.streams) or "none"
        raise AudioRejected(RejectReason.NOT_AUDIO, f"{report.container} file without audio stream; streams: {kinds}")
    stream = opened.streams.audio[0]
    # PyAV leaves the context out where FFmpeg has no decoder.
    if stream.codec_context is None:
        raise AudioRejected(RejectReason.UNSUPPORTED_FORMAT, f"{report.container} file with an unknown codec")
    if stream.codec_context.channels == 0:
        raise AudioRejected(RejectReason.CORRUPT_HEADER, f"{report.container} header says 0 channels")
    report.codec = stream.codec_context.name
    if stream.duration is not None and stream.time_base is not None:
        report.stated_seconds = float(stream.duration * stream.time_base)
    for packet in _packets(opened, stream, report):
        report.note_packet(packet.pos)
        try:
            yield from packet.decode()
        except av.MemoryError:
            raise
        except av.FFmpegError as error:
            report.note_failure(error)


def _packets(
    opened: av.container.InputContainer, stream: av.AudioStream, report: DecodeReport
) -> "Iterator[av.Packet[av.AudioStream]]":
    """Yield packets, past places where the demuxer fails, as long as it reads on."""
    bytes_read = -1
    while report.watched.bytes_read > bytes_read:
        bytes_read = report.watched.bytes_read
        try:
            yield from opened.demux(stream)
            return
        except av.MemoryError:
            raise
        except av.FFmpegError as error:
            report.note_failure(error)


def _resample(frames: Iterator[av.AudioFrame], sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """Yield mono float32 blocks. A chained file may change its rate or layout on the way: new resampler."""
    for (rate, _, _), alike in groupby(frames, lambda f: (f.sample_rate, f.format.name, f.layout.name)):
        check_sample_rate(rate)
        # FFmpeg mixes floats to a sum that exceeds full scale unless it is told the maximum.
        resampler = av.AudioResampler("flt", "mono", sample_rate, options={"rematrix_maxval": "1.0"})
        for frame in chain(alike, [None]):
            for resampled in resampler.resample(frame):
                yield resampled.to_ndarray()[0]
