"""How a stage builds its model and its parameter groups."""

import pytest
import torch

from htcl.config import StageConfig
from htcl.config_file import validate_config
from htcl.errors import HTCLError
from htcl.training.stages import logit_scales, new_stage1, parameter_groups, text_encoder_folder

RATES = {"text_encoder_lr": 1e-5, "audio_encoder_lr": 2e-4, "head_lr": 3e-3}


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
        "heads": 3e-3,
    }
    found = names_by_group(model, groups)
    grouped = [name for names in found.values() for name in names]
    assert sorted(grouped) == sorted(name for name, _ in model.named_parameters())
    assert all(name.startswith("text_model.") for name in found["text_encoder"])
    assert all(name.startswith("audio_model.") for name in found["audio_encoder"])
    heads = {"audio_mlp", "text_mlp", *(("tau",) if stage == 1 else ("fusion_mlp", "tau_1", "tau_2", "tau_3"))}
    assert {name.split(".")[0] for name in found["heads"]} == heads


def test_rate_zero_freezes_and_a_later_stage_thaws(tiny_model):
    model = tiny_model()
    groups = parameter_groups(model, StageConfig(**RATES | {"text_encoder_lr": 0}))
    assert [group["name"] for group in groups] == ["audio_encoder", "heads"]
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("text_model.")}
    parameter_groups(model, StageConfig(**RATES))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_logit_scales_are_named(tiny_model):
    assert logit_scales(tiny_model(2)) == pytest.approx({"tau_1": 2.6, "tau_2": 2.6, "tau_3": 2.6})


def test_text_encoder_of_a_package_is_found():
    folder = text_encoder_folder("package:htcl/presets")
    assert folder.endswith("htcl/presets")
    for name in ("bert-base-multilingual-uncased", "/models/bert"):
        assert text_encoder_folder(name) == name


@pytest.mark.parametrize("name", ["package:no_such_package/model", "package:no.such/model", "package:"])
def test_a_package_that_is_not_there_names_the_setting(name):
    with pytest.raises(HTCLError, match=r"model.text_encoder: the package .* is not installed"):
        text_encoder_folder(name)


def test_a_text_encoder_that_cannot_be_loaded_names_the_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (tmp_path / "nothing", tmp_path):
        config = validate_config(
            {
                "workspace": "w",
                "catalog": {"path": "c"},
                "interactions": {"path": "l"},
                "model": {"text_encoder": str(name)},
            },
            "test",
        )
        with pytest.raises(HTCLError, match=rf"model.text_encoder: {name} cannot be loaded"):
            new_stage1(config)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"hidden_size": 40, "num_attention_heads": 4}, "hidden_size 40 is not a multiple of position_conv_groups 16"),
        ({"conv_filters": [8, 8]}, "must have one entry per layer"),
    ],
)
def test_sizes_that_cannot_be_built_are_told_from_the_text_encoder(sizes, reason):
    values = {"workspace": "w", "catalog": {"path": "c"}, "interactions": {"path": "l"}, "model": sizes}
    with pytest.raises(HTCLError, match=rf"^model: .*{reason}"):
        new_stage1(validate_config(values, "test"))


def test_a_new_stage_1_keeps_the_text_encoder_and_the_configured_sizes(tiny_model, processor, tmp_path):
    model = tiny_model()
    model.text_model.save_pretrained(tmp_path)
    processor.tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = validate_config(
        {
            "workspace": "w",
            "catalog": {"path": "c"},
            "interactions": {"path": "l"},
            "audio": {"n_mels": 16, "max_seconds": 30},
            "model": {
                "text_encoder": str(tmp_path),
                "text_max_tokens": 7,
                "text_fields": ["tags", "title"],
                "conv_filters": [8, 8, 8],
                "projection_sizes": [16, 8],
                "fusion_sizes": [8, 8],
                **sizes,
            },
            "stage1": {"dropout": 0.25},
        },
        "test",
    )
    made, read = new_stage1(config)
    for name, value in model.text_model.state_dict().items():
        torch.testing.assert_close(made.text_model.state_dict()[name], value)
    audio = made.config.audio_config
    assert {name: getattr(audio, name) for name in sizes} == sizes
    assert (audio.n_mels, audio.max_seconds, audio.dropout, made.config.projection_dropout) == (16, 30, 0.25, 0.25)
    assert read.max_tokens == 7 and read.text_fields == ["tags", "title"] and read.audio_config is audio
    assert made.config.stage == 1 and list(made.config.projection_sizes) == [16, 8]
