"""Songs and texts to embeddings with a published model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from transformers.utils import logging as transformers_logging

from htcl.errors import HTCLError
from htcl.models import HTCLModel, HTCLProcessor

Float32 = npt.NDArray[np.float32]


class SongEmbedder:
    """A model in evaluation mode with its processor, on one device."""

    def __init__(self, model: HTCLModel, processor: HTCLProcessor, device: str | None = None) -> None:
        self.model, self.processor = model, processor
        self.model.train(False)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        torch.nn.Module.to(self.model, self.device)

    @staticmethod
    @lru_cache(maxsize=2)
    def load(folder: str, model_id: str, device: str | None = None) -> SongEmbedder:
        """Load a model folder once a process.

        Args:
            folder: of the model.
            model_id: tells two contents of one folder apart.
            device: of torch; by default a GPU where there is one.
        """
        with _without_progress_bar():
            model = HTCLModel.from_pretrained(folder)
        return SongEmbedder(model, HTCLProcessor.from_pretrained(folder), device)

    @torch.inference_mode()
    def embed_texts(self, texts: list[str], batch_size: int = 64) -> Float32:
        """Unit text embeddings [n, d]."""
        blocks = []
        for start in range(0, len(texts), batch_size):
            inputs = self.processor(text=texts[start : start + batch_size]).to(self.device)
            blocks.append(unit(self.model.get_text_features(**inputs)))
        return np.concatenate(blocks)

    @torch.inference_mode()
    def embed_songs(
        self, mels: list[npt.NDArray[np.float16]], texts: list[str] | None = None
    ) -> tuple[Float32, Float32 | None]:
        """Unit audio embeddings [n, d] and, given the texts and a stage-2 model, fusion embeddings [n, d]."""
        inputs = {name: part.to(self.device) for name, part in self.processor.from_mels(mels).items()}
        audio = self.model.get_audio_features(**inputs)
        if texts is None:
            return unit(audio), None
        text = self.model.get_text_features(**self.processor(text=texts).to(self.device))
        return unit(audio), unit(self.model.get_fusion_features(audio, text))


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """No bar of transformers for what takes milliseconds; a notebook would keep it."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def torch_device(addresses: Sequence[str]) -> str:
    """The device of a task that a scheduler has given GPUs by their numbers; without any the CPU.

    Raises:
        HTCLError: when torch does not see that GPU.
    """
    if not addresses:
        return "cpu"
    seen = torch.cuda.device_count()
    if not addresses[0].isdecimal() or int(addresses[0]) >= seen:
        raise HTCLError(
            f"this task was given GPU {addresses[0]!r}, but torch {torch.__version__} sees {seen} here; install a CUDA "
            "build of torch on the workers and look at the discovery script, or ask for no GPU"
        )
    return f"cuda:{addresses[0]}"


def unit(vectors: torch.Tensor) -> Float32:
    """Rows of unit length as float32 on the host."""
    normalized = torch.nn.functional.normalize(vectors.float(), dim=-1)
    return np.asarray(normalized.cpu().numpy(), dtype=np.float32)
