"""A file of many hours that takes little disk, and what decoding it takes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from htcl.audio.isolated import IsolatedDecoder

RATE = 8_000


def sparse_wav(path: Path, seconds: int) -> Path:
    """A WAV of 8 kHz: two minutes of noise, and nothing on disk for the rest."""
    noise = (3000 * np.random.default_rng(0).standard_normal(121 * RATE)).astype("<i2")
    size = 2 * seconds * RATE
    fmt = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    path.write_bytes((fmt + struct.pack("<4sI", b"data", size) + noise.tobytes())[: 44 + size])
    os.truncate(path, 44 + size)
    return path


def peak_mb(decoder: IsolatedDecoder) -> float:
    """MB that the decoder's child has taken at most."""
    status = Path(f"/proc/{decoder.pid}/status").read_text(encoding="ascii").split()
    return int(status[status.index("VmHWM:") + 1]) / 1024
