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

HEADS = {"audio_heads": 4, "text_heads": 4}
"""Of the reference models, as options of an import."""


def generator(name, seed=VECTORS["seed"]):
    return np.random.Generator(np.random.PCG64((zlib.crc32(name.encode()) + seed) % 2**32))


def parameter(name, shape, seed=VECTORS["seed"]):
    if name.startswith("tau"):
        return torch.full(shape, 2.6)
    value = generator(name, seed).standard_normal(shape)
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


def published_state(stage=1, seed=VECTORS["seed"]):
    shapes = VECTORS[f"stage{stage}_state_dict"]
    return {name: parameter(name, shape, seed) for name, shape in shapes.items()}


def reference_model(stage=1, **changes):
    model = HTCLModel(reference_config(stage, **changes))
    model.load_state_dict(published_state(stage))
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


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        # As integers, so that not even the sign of a zero may differ.
        assert torch.equal(found[name].view(torch.int32), value.view(torch.int32)), name


def ddp(state):
    return {f"module.{name}": value for name, value in state.items()}
