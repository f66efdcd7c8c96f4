"""Which models the report card trains, each as settings over the configuration."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from htcl.config import PipelineConfig
from htcl.config_file import validate_config


@dataclass(frozen=True)
class Steps:
    """Steps that the stages take by the configuration, and in one epoch of stage 1."""

    stage1: int
    stage2: int
    stage1_epoch: int


@dataclass(frozen=True)
class Variant:
    """A model that is trained.

    Attributes:
        name: in tables.
        stage: that its model is the outcome of.
        settings: what it changes, by section.
        about: what it is, in a sentence.
    """

    name: str
    stage: Literal["stage1", "stage2"]
    settings: Callable[[PipelineConfig, Steps], dict[str, dict[str, Any]]]
    about: str

    def config(self, config: PipelineConfig, steps: Steps) -> PipelineConfig:
        """The configuration of this variant."""
        values = config.model_dump(mode="json")
        for section, changes in self.settings(config, steps).items():
            values[section] |= changes
        return validate_config(values, f"report card, {self.name}")


def _longer(config: PipelineConfig, steps: Steps) -> dict[str, dict[str, Any]]:
    return {"stage1": {"epochs": math.ceil((steps.stage1 + steps.stage2) / max(steps.stage1_epoch, 1))}}


def _from_scratch(config: PipelineConfig, **weights: float) -> dict[str, dict[str, Any]]:
    """Stage 2 without stage 1; a text head that nothing has trained must not stay as it is."""
    stage2: dict[str, Any] = {"text_head_lr": config.stage1.text_head_lr}
    if weights:
        stage2["loss_weights"] = config.stage2.loss_weights.model_dump() | weights
    return {"stage1": {"epochs": 0}, "stage2": stage2}


def _without(term: str) -> Callable[[PipelineConfig, Steps], dict[str, dict[str, Any]]]:
    return lambda config, steps: {"stage2": {"loss_weights": config.stage2.loss_weights.model_dump() | {term: 0.0}}}


def _parity(config: PipelineConfig, steps: Steps) -> dict[str, dict[str, Any]]:
    """The authors' code at the same sizes, learning rates and epochs; it knows no augmentation and freezes no head."""
    plain = {"crop_seconds": None, "time_mask_ratio": 0.0, "frequency_mask_ratio": 0.0, "text_field_dropout": 0.0}
    paired = {**plain, "popularity_correction": False, "hard_negative_share": 0.0}
    return {
        "model": {"reference_parity": True},
        "stage1": plain,
        "stage2": {**paired, "text_head_lr": config.stage2.head_lr},
    }


STAGE1, STAGE2 = "stage1", "stage2"

VARIANTS = (
    Variant(STAGE1, "stage1", lambda config, steps: {}, "audio with text"),
    Variant("stage1 longer", "stage1", _longer, "stage 1 for as many steps as both stages together"),
    Variant(STAGE2, "stage2", lambda config, steps: {}, "song with song, from stage 1"),
    Variant(
        "stage2 without stage1",
        "stage2",
        lambda config, steps: _from_scratch(config),
        "stage 2 from an untrained model",
    ),
    Variant("stage2 without audio_text", "stage2", _without("audio_text"), "nothing keeps what songs are"),
    Variant("stage2 without audio_audio", "stage2", _without("audio_audio"), "preference by the fusion alone"),
    Variant("stage2 without audio_fusion", "stage2", _without("audio_fusion"), "preference by sound alone"),
    Variant(
        "stage2 without text",
        "stage2",
        lambda config, steps: _from_scratch(config, audio_text=0.0, audio_fusion=0.0),
        "song with song by sound alone, from an untrained model",
    ),
    Variant("reference_parity", "stage2", _parity, "both stages as the authors' code trains them"),
)
