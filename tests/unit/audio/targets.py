"""What a decoding process may meet, by the name of the file; everything else is decoded as it is."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from htcl.audio.decode import DecodedAudio, decode_audio

_hoard: list[bytearray] = []


def misbehave(path: str, **options: Any) -> DecodedAudio:
    """Do what the file's name says."""
    match Path(path).name.partition("-")[0]:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case "hang":
            time.sleep(600)
        case "bomb":
            bytearray(4 << 30)
        case "leak":
            _hoard.append(bytearray(300 << 20))
        case "bug":
            raise ValueError("unexpected")
        case "network":
            raise ConnectionResetError("the storage hung up")
        case "chatty":
            os.write(1, b"a library's own words\n")
    return decode_audio(path, **options)
