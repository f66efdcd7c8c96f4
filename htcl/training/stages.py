"""The two stages: the model that each goes on from, and its parameter groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from htcl.config import StageConfig
from htcl.models import HTCLModel, HTCLProcessor


def load_model(folder: Path) -> tuple[HTCLModel, HTCLProcessor]:
    """A published model of either stage, with its processor."""
    return HTCLModel.from_pretrained(folder), HTCLProcessor.from_pretrained(folder)


_GROUPS = {"text_model": "text_encoder", "audio_model": "audio_encoder", "text_mlp": "text_head"}
"""Module of the model -> its parameter group; all others are heads."""


def parameter_groups(model: HTCLModel, stage: StageConfig) -> list[dict[str, Any]]:
    """Parameters with their learning rates (paper: encoders and heads differ); rate 0 freezes.

    Returns:
        Groups for the optimizer, named text_encoder, audio_encoder, text_head, heads.
    """
    rates = {
        "text_encoder": stage.text_encoder_lr,
        "audio_encoder": stage.audio_encoder_lr,
        "text_head": stage.text_head_lr,
        "heads": stage.head_lr,
    }
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
    for name, parameter in model.named_parameters():
        group = _GROUPS.get(name.split(".")[0], "heads")
        parameter.requires_grad_(rates[group] > 0)
        if rates[group] > 0:
            groups[group].append(parameter)
    return [{"params": found, "lr": rates[name], "name": name} for name, found in groups.items() if found]


def set_dropout(model: HTCLModel, dropout: float) -> None:
    """Give audio encoder and heads the dropout of the stage that begins; the text encoder keeps its own."""
    model.config.audio_config.dropout = model.config.projection_dropout = dropout  # type: ignore[union-attr]
    for name, part in model.named_children():
        for module in part.modules() if name != "text_model" else ():
            if isinstance(module, nn.Dropout):
                module.p = dropout
            elif isinstance(module, nn.MultiheadAttention):
                module.dropout = dropout


def logit_scales(model: HTCLModel) -> dict[str, float]:
    """The temperatures by name, natural logarithms."""
    with torch.no_grad():
        return {n: float(t) for n, t in zip(model.temperature_names, model.temperatures, strict=True)}
