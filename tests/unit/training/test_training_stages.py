"""The parameter groups of a stage."""

import pytest

from htcl.config import StageConfig
from htcl.training.stages import logit_scales, parameter_groups

RATES = {"text_encoder_lr": 1e-5, "audio_encoder_lr": 2e-4, "text_head_lr": 1e-3, "head_lr": 3e-3}


def names_by_group(model, groups):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {group["name"]: [names[id(parameter)] for parameter in group["params"]] for group in groups}


@pytest.mark.parametrize("stage", [1, 2])
def test_every_parameter_is_in_the_group_of_its_learning_rate(tiny_model, stage):
    model = tiny_model(stage)
    groups = parameter_groups(model, StageConfig(**RATES))
    assert {group["name"]: group["lr"] for group in groups} == {
        "text_encoder": 1e-5,
        "audio_encoder": 2e-4,
        "text_head": 1e-3,
        "heads": 3e-3,
    }
    found = names_by_group(model, groups)
    grouped = [name for names in found.values() for name in names]
    assert sorted(grouped) == sorted(name for name, _ in model.named_parameters())
    assert all(name.startswith("text_model.") for name in found["text_encoder"])
    assert all(name.startswith("audio_model.") for name in found["audio_encoder"])
    assert all(name.startswith("text_mlp.") for name in found["text_head"])
    heads = {"audio_mlp", *(("tau",) if stage == 1 else ("fusion_mlp", "tau_1", "tau_2", "tau_3"))}
    assert {name.split(".")[0] for name in found["heads"]} == heads


def test_rate_zero_freezes_and_a_later_stage_thaws(tiny_model):
    model = tiny_model()
    groups = parameter_groups(model, StageConfig(**RATES | {"text_encoder_lr": 0}))
    assert [group["name"] for group in groups] == ["audio_encoder", "text_head", "heads"]
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("text_model.")}
    parameter_groups(model, StageConfig(**RATES))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_logit_scales_are_named(tiny_model):
    assert logit_scales(tiny_model(2)) == pytest.approx({"tau_1": 2.6, "tau_2": 2.6, "tau_3": 2.6})
