"""What the bytes of an audio file say about it before any decoder runs: container, claimed length, end marks.

Sources: RIFF/WAVE, RFC 9639 (FLAC), RFC 3533 (Ogg), ISO/IEC 14496-12 (MP4), ISO/IEC 11172-3 (MPEG audio).
"""

import re
import struct
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from io import SEEK_END
from typing import BinaryIO

from htcl.audio.rejects import AudioRejected, RejectReason

# Sample rates outside are header damage; the upper one is the highest that any converter offers.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 4_000, 768_000

_SIGNATURE_BYTES = 4096
_TRACE_BYTES = 256 * 1024
_MAX_OGG_PAGE_BYTES = 65_307
_MAX_CHUNKS = 256
# Written where the length was not known: RF64 and FFmpeg to a pipe, never filled in, SoX to a pipe.
_UNKNOWN_WAV_LENGTHS = {0xFFFFFFFF, 0, 0x7FFFF000}

_FOREIGN_SIGNATURES = {
    b"FORM": "AIFF",
    b"RIFX": "big-endian WAV",
    b"\x1a\x45\xdf\xa3": "Matroska or WebM",
    b"\x30\x26\xb2\x75": "ASF (WMA)",
    b"caff": "CAF",
    b"wvPk": "WavPack",
    b"MAC ": "Monkey's Audio",
    b"#!AMR": "AMR",
}
# What remains of a file whose first bytes are destroyed.
_TRACES = {
    "ogg": re.compile(rb"OggS\x00[\x00-\x07]"),
    "mp4": re.compile(rb"ftyp(M4A|mp4|iso|dash)|moov.{4}mvhd", re.DOTALL),
    "wav": re.compile(rb"WAVEfmt |fmt \x10\x00\x00\x00"),
}
# A FLAC frame begins with a sync code; the four bytes from there are the same in every frame.
_FLAC_FRAME = re.compile(rb"\xff[\xf8\xf9][\x10-\xff].", re.DOTALL)
_FLAC_FRAMES_NEEDED = 4


class Container(StrEnum):
    """The containers that are read; the value is the name of FFmpeg's demuxer."""

    WAV = "wav"
    FLAC = "flac"
    MP3 = "mp3"
    OGG = "ogg"
    MP4 = "mp4"


class OggEnd(StrEnum):
    """How an Ogg file ends: with its end-of-stream mark, after a whole page, or inside a page."""

    MARKED = "end-of-stream mark"
    OPEN = "whole page without end-of-stream mark"
    CUT = "incomplete page"


@dataclass(frozen=True)
class WavHeader:
    """What is checked of a RIFF/WAVE header. `data_bytes` is None where the writer left it open."""

    sample_rate: int
    channels: int
    data_bytes: int | None
    available_bytes: int


def file_size(file: BinaryIO) -> int:
    """Return the size of a seekable file in bytes."""
    return file.seek(0, SEEK_END)


def identify(file: BinaryIO) -> Container:
    """Tell the container from the signature at the start of the file, past an ID3v2 tag.

    Raises:
        AudioRejected: `unsupported_format` for other audio formats, `corrupt_header` where the signature is
            destroyed but the rest is recognisably audio, `not_audio` else.
    """
    id3_bytes = _id3_bytes(_read_at(file, 0, 10))
    head = _read_at(file, id3_bytes, _SIGNATURE_BYTES)
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return Container.WAV
    if head[:4] == b"fLaC":
        return Container.FLAC
    if head[:4] == b"OggS":
        return Container.OGG
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return Container.MP4
    if id3_bytes or _is_mpeg_frame(head):
        return Container.MP3
    raise _unrecognised(file, head)


def _unrecognised(file: BinaryIO, head: bytes) -> AudioRejected:
    for signature, name in _FOREIGN_SIGNATURES.items():
        if head.startswith(signature):
            return AudioRejected(
                RejectReason.UNSUPPORTED_FORMAT,
                f"{name} file; convert it to wav, flac, mp3, ogg, opus or m4a",
            )
    window = _read_at(file, 0, _TRACE_BYTES)
    first = head[:8].hex(" ")
    traces = [name for name, trace in _TRACES.items() if trace.search(window)]
    flac_frames = Counter(_FLAC_FRAME.findall(window)).most_common(1)
    if flac_frames and flac_frames[0][1] >= _FLAC_FRAMES_NEEDED:
        traces.append("flac")
    if traces:
        return AudioRejected(
            RejectReason.CORRUPT_HEADER,
            f"starts with bytes {first}, no known signature, but holds {' and '.join(traces)} data",
        )
    return AudioRejected(
        RejectReason.NOT_AUDIO,
        f"starts with bytes {first}, no known signature, and no audio data in the first {len(window)} bytes",
    )


def _id3_bytes(head: bytes) -> int:
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _is_mpeg_frame(head: bytes) -> bool:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer != 0 and bitrate not in (0, 15) and rate != 3


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def read_wav_header(file: BinaryIO) -> WavHeader:
    """Read a RIFF/WAVE header and refuse what no decoder should see.

    Raises:
        AudioRejected: `corrupt_header` (no fmt or data chunk, 0 channels), `absurd_sample_rate`.
    """
    size, offset, fmt = file_size(file), 12, b""
    for _ in range(_MAX_CHUNKS):
        name_and_size = _read_at(file, offset, 8)
        if len(name_and_size) < 8:
            break
        name, length = struct.unpack("<4sI", name_and_size)
        offset += 8
        if name == b"fmt ":
            fmt = file.read(16)
        if name == b"data" and len(fmt) == 16:
            return _check_wav_header(fmt, None if length in _UNKNOWN_WAV_LENGTHS else length, size - offset)
        offset += length + length % 2
    raise AudioRejected(
        RejectReason.CORRUPT_HEADER,
        f"WAV of {size} bytes without a {'data' if fmt else 'fmt'} chunk",
    )


def _check_wav_header(fmt: bytes, data_bytes: int | None, available_bytes: int) -> WavHeader:
    _, channels, sample_rate = struct.unpack("<HHI", fmt[:8])
    if channels == 0:
        raise AudioRejected(RejectReason.CORRUPT_HEADER, "WAV header says 0 channels")
    check_sample_rate(sample_rate)
    return WavHeader(sample_rate, channels, data_bytes, available_bytes)


def check_sample_rate(sample_rate: int) -> None:
    """Raise AudioRejected `absurd_sample_rate` for a rate (Hz) that no recording has."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioRejected(
            RejectReason.ABSURD_SAMPLE_RATE,
            f"header says {sample_rate} Hz; accepted are {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz",
        )


def ogg_end(file: BinaryIO) -> OggEnd:
    """Tell from the last page of an Ogg file whether the file is whole."""
    size = file_size(file)
    tail = _read_at(file, max(0, size - _MAX_OGG_PAGE_BYTES), _MAX_OGG_PAGE_BYTES)
    page = tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""
    if len(page) < 27 or len(page) < 27 + page[26]:
        return OggEnd.CUT
    body_bytes = sum(page[27 : 27 + page[26]])
    if len(page) < 27 + page[26] + body_bytes:
        return OggEnd.CUT
    return OggEnd.MARKED if page[5] & 4 else OggEnd.OPEN


def mp4_cut(file: BinaryIO) -> str | None:
    """Say how an MP4 file that does not open was cut: a box past the end, no index. None if it was not."""
    size, offset, names = file_size(file), 0, set[bytes]()
    for _ in range(_MAX_CHUNKS):
        header = _read_at(file, offset, 16)
        if len(header) < 8:
            break
        length, name = struct.unpack(">I4s", header[:8])
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack(">Q", header[8:])
        names.add(name)
        if length and offset + length > size:
            return f"box {name!r} claims {length} bytes at byte {offset}, the file ends at {size}"
        if length < 8:
            break
        offset += length
    return None if b"moov" in names else f"no moov box (the index) in {size} bytes"


def mp3_states_length(file: BinaryIO) -> bool:
    """Tell whether the first MPEG frame holds a Xing, Info or VBRI header, which count the frames."""
    head = _read_at(file, _id3_bytes(_read_at(file, 0, 10)), _SIGNATURE_BYTES)
    return any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))
