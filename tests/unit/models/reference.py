"""The reference vectors: models, inputs and numbers measured from the authors' implementation."""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from htcl.models import HTCLConfig, HTCLModel

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "reference_vectors.json").read_text())


def generator(name):
    return np.random.Generator(np.random.PCG64((zlib.crc32(name.encode()) + VECTORS["seed"]) % 2**32))


def parameter(name, shape):
    if name.startswith("tau"):
        return torch.full(shape, 2.6)
    value = generator(name).standard_normal(shape)
    value = value * (0.05 if len(shape) < 2 else 2 / math.sqrt(math.prod(shape[1:])))
    if (len(shape) == 1 and name.endswith("weight")) or name.endswith("original0"):
        value = value + 1
    return torch.tensor(value, dtype=torch.float32)


def reference_config(stage=1, **changes):
    audio = dict(VECTORS["audio_config"])
    audio["n_mels"] = audio.pop("input_dim")
    return HTCLConfig(
        audio_config=audio,
        text_config=VECTORS["bert_config"],
        projection_sizes=VECTORS["mlp"][1:],
        fusion_sizes=VECTORS["fusion_mlp"][1:],
        stage=stage,
        **changes,
    )


def reference_model(stage=1, **changes):
    model = HTCLModel(reference_config(stage, **changes))
    shapes = VECTORS[f"stage{stage}_state_dict"]
    model.load_state_dict({name: parameter(name, shape) for name, shape in shapes.items()})
    return model.eval()


def mel(name):
    return torch.tensor(generator(name).standard_normal((6, 200, 128)), dtype=torch.float32)


def tokens(name):
    ids = torch.tensor(generator(name).integers(5, 200, (6, 12)))
    lengths = torch.tensor(generator(name + "len").integers(4, 13, 6))
    mask = (torch.arange(12) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def matrix(name):
    return torch.tensor(generator(name).standard_normal((8, 16)), dtype=torch.float32)
