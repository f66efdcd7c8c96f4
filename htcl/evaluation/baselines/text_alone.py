"""The text baseline: the pre-trained text encoder as it comes, before any training here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from htcl.config import PipelineConfig
from htcl.embeddings.embedder import unit
from htcl.models.untrained import new_stage1

BATCH_SIZE = 64


@torch.inference_mode()
def text_alone(config: PipelineConfig, texts: list[str]) -> npt.NDArray[np.float32]:
    """Unit embeddings of texts by the pooled output of the untrained text encoder, [n, hidden size]."""
    model, processor = new_stage1(config)
    model.train(False)
    blocks = []
    for start in range(0, len(texts), BATCH_SIZE):
        inputs = processor(text=texts[start : start + BATCH_SIZE])
        blocks.append(unit(model.pooled_text(**inputs)))
    return np.concatenate(blocks)
