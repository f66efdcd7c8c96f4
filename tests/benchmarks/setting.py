"""Models, songs and engines that the benchmarks share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from transformers import BertTokenizer

from htcl.config import PipelineConfig
from htcl.config_file import validate_config
from htcl.models import HTCLConfig, HTCLModel, HTCLProcessor
from htcl.training.batches import Batch, MicroBatch, model_inputs
from htcl.training.loop import join_ranks, seed_micro_batch, start_engine
from htcl.training.step import forward_backward

FULL_FRAMES = 1251
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(1000))]
AUDIO = {
    "conv_filters": [256, 256, 256],
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}
TEXT = {
    "vocab_size": len(WORDS),
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
}
SIZE = "audio 4 x 256, text 2 x 128, both trained"


def new_model(stage: int, audio: Mapping[str, Any] | None = None, **changes: Any) -> HTCLModel:
    """A model of medium size, or with another audio encoder, the same every time."""
    torch.manual_seed(0)
    config = HTCLConfig(audio_config={**AUDIO, **(audio or {})}, text_config=TEXT, stage=stage, **changes)
    return HTCLModel(config).train()


def new_processor(parity: bool = False) -> HTCLProcessor:
    """Its processor."""
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    return HTCLProcessor(tokenizer, new_model(1).config.audio_config, reference_parity=parity)  # type: ignore[arg-type]


def config_of(stage: int, batch: int) -> PipelineConfig:
    """Defaults, with this batch."""
    recipe = {"global_batch_size": batch, "text_encoder_lr": 1e-5}
    places = {"workspace": "w", "catalog": {"path": "c"}, "interactions": {"path": "l"}}
    return validate_config({**places, f"stage{stage}": recipe}, "the benchmark")


def new_engine(stage: int, batch: int, model: HTCLModel) -> Any:
    """DeepSpeed's engine on one rank, as training makes it."""
    config = config_of(stage, batch)
    join_ranks(config)
    return start_engine(config, config.stage1 if stage == 1 else config.stage2, model, 1000)


def new_mels(frames: list[int], n_mels: int = 128) -> list[np.ndarray]:
    """Noise of given lengths, as log-mels."""
    generator = np.random.default_rng(0)
    return [(10 * generator.standard_normal((n, n_mels)) - 40).astype(np.float16) for n in frames]


def inputs_of(processor: HTCLProcessor, mels: list[np.ndarray], songs: list[int]) -> MicroBatch:
    """Model inputs of songs, each with a text of its own."""
    texts = [" ".join(f"w{(song * 7 + word) % 1000}" for word in range(12)) for song in songs]
    return model_inputs(processor.from_mels(mels), processor(text=texts), np.array(songs))


def batch_of(parts: list[MicroBatch], places: np.ndarray, songs: np.ndarray, own: int | None = None) -> Batch:
    """A batch with masks for songs that come twice, of which this rank computes the first samples, or all."""
    none = torch.zeros((0, 2), dtype=torch.int64)
    known = (none, none) if places.shape[1] == 2 else None
    return Batch(0, parts, torch.from_numpy(places), torch.arange(own or len(places)), torch.from_numpy(songs), known)


def train_on(
    engine: Any, batch: Batch, cached: bool = False, phase: Callable[[str, int], None] = lambda phase, part: None
) -> None:
    """One step."""
    forward_backward(engine, batch, cached, lambda part: seed_micro_batch(0, 0, part), phase)
    engine.step()
