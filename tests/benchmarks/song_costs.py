"""What a full-length song costs at the published sizes: decoding with its log-mel, and a forward of the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from transformers import BertConfig

from htcl.audio.decode import decode_audio
from htcl.audio.features import log_mel
from htcl.models import HTCLConfig, HTCLModel
from tests.benchmarks.setting import FULL_FRAMES

FILE_SECONDS, FILE_RATE, BIT_RATE = 150, 44_100, 192_000
TOKENS = 64
VOCABULARY = 105_879
"""Of bert-base-multilingual-uncased."""


def decode_seconds(folder: Path, rounds: int = 5) -> float:
    """Core-seconds from an MP3 (44.1 kHz, stereo, 192 kbit/s) to the log-mel of its first two minutes."""
    path = folder / "song.mp3"
    _write_mp3(path)
    return _core_seconds(lambda: log_mel(decode_audio(path).samples), rounds)


@torch.inference_mode()
def embed_seconds(batch: int = 4, rounds: int = 2) -> float:
    """Core-seconds of audio, text and fusion embedding of one song: 12 layers each, random weights."""
    model = HTCLModel(HTCLConfig(text_config=BertConfig(vocab_size=VOCABULARY).to_dict(), stage=2)).eval()
    mel = torch.randn(batch, FULL_FRAMES, model.config.audio_config.n_mels)
    mask = torch.ones(batch, FULL_FRAMES, dtype=torch.long)
    words = torch.randint(0, VOCABULARY, (batch, TOKENS))

    def forward() -> None:
        audio = model.get_audio_features(mel, mask)
        model.get_fusion_features(audio, model.get_text_features(words, torch.ones_like(words)))

    return _core_seconds(forward, rounds) / batch


def _core_seconds(act: Callable[[], object], rounds: int) -> float:
    """Of one thread, which has done it once before."""
    torch.set_num_threads(1)
    act()
    started = time.process_time()
    for _ in range(rounds):
        act()
    return (time.process_time() - started) / rounds


def _write_mp3(path: Path) -> None:
    """Chords under noise, so that the encoder has something to do in every band."""
    rng, moments = np.random.default_rng(0), np.arange(FILE_SECONDS * FILE_RATE) / FILE_RATE
    sound = sum(np.sin(2 * np.pi * pitch * moments) for pitch in (220.0, 277.2, 329.6, 1760.0)) / 10
    stereo = np.stack([sound, sound]) + 0.05 * rng.standard_normal((2, len(moments)))
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mp3", rate=FILE_RATE, bit_rate=BIT_RATE)
        for start in range(0, len(moments), 1152):
            part = np.ascontiguousarray(stereo[:, start : start + 1152], dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = FILE_RATE, start
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
