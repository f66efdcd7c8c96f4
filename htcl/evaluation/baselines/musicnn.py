"""musicnn's penultimate layer (Pons & Serra 2019), in an environment of its own: it needs an old TensorFlow."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
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
_PROGRAM = """
import os, sys
import librosa
import numpy as np
import tensorflow.compat.v1 as tf
from musicnn import configuration as settings, extractor, models

answers, sys.stdout = sys.stdout, sys.stderr
name = "MTT_musicnn"
seconds = {"sr": settings.SR, "n_fft": settings.FFT_SIZE, "hop_length": settings.FFT_HOP}
frames = int(librosa.time_to_frames(3, **seconds)) + 1
tf.disable_eager_execution()
patches, training = tf.placeholder(tf.float32, [None, frames, settings.N_MELS]), tf.placeholder(tf.bool)
penultimate = models.define_model(patches, training, name, len(settings.MTT_LABELS))[-1]
session = tf.Session()
tf.train.Saver().restore(session, os.path.join(os.path.dirname(models.__file__), name) + "/")
for line in sys.stdin:
    path = line.rstrip("\\n")
    heard, _ = extractor.batch_data(path, frames, frames)
    vectors = session.run(penultimate, {patches: heard, training: False})
    np.save(path + ".npy", vectors.mean(axis=0).astype(np.float32))
    print(path, file=answers, flush=True)
"""
"""Reads paths of WAV files, writes the vector of each beside it and then answers with the path. Not by
`musicnn.extractor.extractor`: that gives the penultimate layer of the first patch for all patches, and loads the model
anew for each file."""


@lru_cache(1)
def musicnn_vectors(python: str, audio: tuple[str, ...], sample_rate: int, max_seconds: float) -> Float32:
    """Mean over time of the penultimate layer of the model that was trained on MagnaTagATune.

    The last answer is kept: further trainings are asked about the same songs, and this takes minutes.

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
    found, progress = [], Progress(get_logger("report_card"), "musicnn", len(audio))
    with tempfile.TemporaryDirectory() as folder, _program(python, Path(folder)) as hear:
        wave = Path(folder) / "song.wav"
        for uri in audio:
            _write_wave(wave, decode_audio(uri, sample_rate=sample_rate, max_seconds=max_seconds).samples, sample_rate)
            found.append(hear(wave))
            progress.update(len(found))
    return np.stack(found)


def _write_wave(path: Path, samples: Float32, sample_rate: int) -> None:
    """16 bits; a short song is repeated until it fills a patch."""
    filled = np.resize(samples, max(int(MIN_SECONDS * sample_rate), len(samples)))
    scipy.io.wavfile.write(path, sample_rate, np.int16(np.clip(filled, -1, 1) * 32767))


@contextmanager
def _program(python: str, folder: Path) -> Iterator[Callable[[Path], Float32]]:
    """The program at work: from a WAV file to its vector."""
    errors = folder / "stderr"
    with errors.open("w") as stderr:
        try:
            process = subprocess.Popen(
                [python, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        except OSError as error:
            raise HTCLError(f"report_card.musicnn_python: {python} cannot be started ({error.strerror})") from None

    def hear(wave: Path) -> Float32:
        assert process.stdin and process.stdout
        with suppress(BrokenPipeError):  # it has ended, and says why in what is read below
            print(wave, file=process.stdin, flush=True)
        if not process.stdout.readline():
            last = (errors.read_text().strip().splitlines() or ["no output"])[-1]
            raise HTCLError(
                f"report_card.musicnn_python: {python} failed ({last}); make musicnn makes one that does not, or leave "
                "it empty"
            )
        return np.asarray(np.load(f"{wave}.npy"), np.float32)

    try:
        yield hear
    finally:
        process.kill()
        process.communicate()  # closes the pipes, whatever is left in them
