"""What a question sounds like: words and uploaded files to a point in both spaces, by the models of both stages."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch

from htcl.audio.decode import AudioRejected, DecodedAudio, RejectReason
from htcl.audio.isolated import IsolatedDecoder, Limits
from htcl.config import AudioConfig
from htcl.embeddings.embedder import Float32, SongEmbedder, unit
from htcl.explore.refusal import Refusal
from htcl.explore.spaces import Point

REMEMBERED_WORDS = 256
"""Queries whose points are kept: moving the slider asks the same words again and again."""


@dataclass(frozen=True)
class Heard:
    """An uploaded sound: where it lies, how many seconds of it were heard, and whether that is not all of it."""

    point: Point
    seconds: float
    cut: bool


class Ears(Protocol):
    """What turns questions into points."""

    def words(self, text: str) -> Point:
        """Where a text lies."""

    def sound(self, path: str) -> Heard:
        """Where a sound file lies; a file that is none raises Refusal."""


class Decoder:
    """The isolated decoder for the threads of a server: one file at a time, in a process that limits hold."""

    def __init__(self, audio: AudioConfig) -> None:
        self._isolated = IsolatedDecoder(Limits(audio.decode_seconds, audio.decode_memory_mb))
        # The child ends with the thread that started it, and a server's own threads come and go.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoder")

    def decode(self, path: str, sample_rate: int, max_seconds: float, min_seconds: float) -> DecodedAudio:
        """The first `max_seconds` of a file, mono; raises as `htcl.audio.isolated.IsolatedDecoder.result`."""
        return self._thread.submit(self._decode, path, sample_rate, max_seconds, min_seconds).result()

    def close(self) -> None:
        """End the process."""
        self._thread.submit(self._isolated.close).result()
        self._thread.shutdown()

    def _decode(self, path: str, sample_rate: int, max_seconds: float, min_seconds: float) -> DecodedAudio:
        self._isolated.submit(path, sample_rate=sample_rate, max_seconds=max_seconds, min_seconds=min_seconds)
        return self._isolated.result()


class ModelEars:
    """The models of both stages, which one thread uses at a time."""

    def __init__(self, meaning: SongEmbedder, taste: SongEmbedder, decoder: Decoder, audio: AudioConfig) -> None:
        self._models = (meaning, taste)
        self._decoder, self.min_seconds = decoder, max(audio.min_seconds, *map(_least_seconds, self._models))
        self._lock = threading.Lock()
        self._words: Callable[[str], Point] = lru_cache(REMEMBERED_WORDS)(self._embed_words)

    def words(self, text: str) -> Point:
        """Where a text lies, by the text heads."""
        return self._words(text)

    def sound(self, path: str) -> Heard:
        """Where a sound file lies, by the audio heads.

        Raises:
            Refusal: saying what is wrong with the file.
        """
        numbers = self._models[1].processor.audio_config
        # A little more than the models hear shows whether there is more.
        wanted = numbers.max_seconds + 0.5
        try:
            audio = self._decoder.decode(path, numbers.sample_rate, wanted, self.min_seconds)
        except AudioRejected as rejected:
            raise Refusal(self._sentence(rejected), 422) from None
        with self._lock:
            meaning, taste = (_embed_sound(model, audio) for model in self._models)
        cut = audio.seconds > numbers.max_seconds
        return Heard(Point(meaning, taste), min(audio.seconds, numbers.max_seconds), cut)

    def _embed_words(self, text: str) -> Point:
        with self._lock:
            meaning, taste = (model.embed_texts([text])[0] for model in self._models)
        return Point(meaning, taste)

    def _sentence(self, rejected: AudioRejected) -> str:
        if rejected.reason is RejectReason.TOO_SHORT:
            return (
                f"This sound is too short; the models need at least {math.ceil(10 * self.min_seconds) / 10:g} seconds."
            )
        return SENTENCES.get(rejected.reason, BROKEN)


_NO_SOUND = "This is not a sound file that can be read here; wav, flac, mp3, ogg, opus and m4a can."
_TOO_MUCH = "This file asks for more time or memory than decoding may take here; try a shorter or simpler one."
BROKEN = "This sound file is damaged and cannot be decoded; try another copy of it."
SENTENCES = {
    RejectReason.EMPTY: "This file is empty.",
    RejectReason.NOT_AUDIO: _NO_SOUND,
    RejectReason.UNSUPPORTED_FORMAT: _NO_SOUND,
    RejectReason.SILENT: "There is nothing to hear in this file.",
    RejectReason.TIME_LIMIT: _TOO_MUCH,
    RejectReason.MEMORY_LIMIT: _TOO_MUCH,
}
"""What a visitor reads of a file that is refused; every other reason means that it is damaged."""


def _least_seconds(model: SongEmbedder) -> float:
    numbers = model.processor.audio_config
    return (numbers.min_frames - 1) * numbers.hop_length / numbers.sample_rate


@torch.inference_mode()
def _embed_sound(model: SongEmbedder, audio: DecodedAudio) -> Float32:
    inputs = model.processor(audio=[audio.samples], sampling_rate=audio.sample_rate).to(model.device)
    (vector,) = unit(model.model.get_audio_features(**inputs))
    return np.asarray(vector, np.float32)
