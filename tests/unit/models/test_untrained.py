"""A fresh model: sizes and text encoder of the configuration, and what is wrong with them."""

import pytest
import torch
from transformers import BertConfig, BertModel

from htcl.config_file import validate_config
from htcl.errors import HTCLError
from htcl.models.untrained import new_stage1, text_encoder_folder


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


def test_a_new_stage_1_keeps_the_text_encoder_and_the_configured_sizes(tokenizer):
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 16}
    text_model = BertModel(BertConfig(vocab_size=10, **layers))
    text_model.save_pretrained(tokenizer)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = validate_config(
        {
            "workspace": "w",
            "catalog": {"path": "c"},
            "interactions": {"path": "l"},
            "audio": {"n_mels": 16, "max_seconds": 30},
            "model": {
                "text_encoder": str(tokenizer),
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
    for name, value in text_model.state_dict().items():
        torch.testing.assert_close(made.text_model.state_dict()[name], value)
    audio = made.config.audio_config
    assert {name: getattr(audio, name) for name in sizes} == sizes
    assert (audio.n_mels, audio.max_seconds, audio.dropout, made.config.projection_dropout) == (16, 30, 0.25, 0.25)
    assert read.max_tokens == 7 and read.text_fields == ["tags", "title"] and read.audio_config is audio
    assert made.config.stage == 1 and list(made.config.projection_sizes) == [16, 8]
