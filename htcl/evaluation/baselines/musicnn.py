"""musicnn's penultimate layer (Pons & Serra 2019), in an environment of its own: it needs an old TensorFlow."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.io.wavfile

from htcl.audio.decode import decode_audio
from htcl.errors import HTCLError
from htcl.logs import Progress, get_logger

Float32 = npt.NDArray[np.float32]

MIN_SECONDS = 3.1
"""musicnn reads patches of three seconds."""
_BATCH = 64
_PROGRAM = """
import sys
import numpy as np
from musicnn.extractor import extractor

for path in sys.stdin.read().split("\\n"):
    if path:
        _, _, features = extractor(path, model="MTT_musicnn", extract_features=True)
        np.save(path + ".npy", features["penultimate"].mean(axis=0).astype(np.float32))
"""


def musicnn_vectors(python: str, audio: list[str], sample_rate: int, max_seconds: float) -> Float32:
    """Mean over time of the penultimate layer of the model that was trained on MagnaTagATune.

    Args:
        python: interpreter of an environment with musicnn (`make musicnn`).
        audio: files [n].
        sample_rate: that they are decoded to, Hz; musicnn reads 16 kHz.
        max_seconds: audio after this is not read.

    Returns:
        float32 [n, 200].

    Raises:
        HTCLError: when that Python has no musicnn, or fails.
    """
    blocks, progress = [], Progress(get_logger("report_card"), "musicnn", len(audio))
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(audio), _BATCH):
            paths = list(_waves(audio[start : start + _BATCH], Path(folder), sample_rate, max_seconds))
            _run(python, paths)
            blocks += [np.load(f"{path}.npy") for path in paths]
            progress.update(len(blocks))
    return np.stack(blocks)


def _waves(audio: list[str], folder: Path, sample_rate: int, max_seconds: float) -> Iterator[Path]:
    """The files as 16-bit WAV, short ones repeated until they fill a patch."""
    for number, uri in enumerate(audio):
        samples = decode_audio(uri, sample_rate=sample_rate, max_seconds=max_seconds).samples
        least = int(MIN_SECONDS * sample_rate)
        path = folder / f"{number}.wav"
        filled = np.resize(samples, max(least, len(samples)))
        scipy.io.wavfile.write(path, sample_rate, np.int16(np.clip(filled, -1, 1) * 32767))
        yield path


def _run(python: str, paths: list[Path]) -> None:
    try:
        done = subprocess.run(
            [python, "-c", _PROGRAM], input="\n".join(map(str, paths)), capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise HTCLError(f"report_card.musicnn_python: {python} cannot be started ({error.strerror})") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise HTCLError(
            f"report_card.musicnn_python: {python} failed ({last}); make musicnn makes one that does, or leave it empty"
        )
