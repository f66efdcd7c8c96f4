"""Building, saving and continuing models."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, BertConfig, BertModel

from htcl.models import HTCLConfig, HTCLModel

from .reference import mel, reference_config, reference_model, tokens


def assert_same_state(model, other, names=None):
    for name in names if names is not None else model.state_dict():
        torch.testing.assert_close(other.state_dict()[name], model.state_dict()[name], rtol=0, atol=0)


@pytest.mark.parametrize("stage", [1, 2])
def test_save_and_load(tmp_path, stage):
    model = reference_model(stage)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    for loaded in (HTCLModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert isinstance(loaded, HTCLModel)
        assert_same_state(model, loaded)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, HTCLConfig)
    assert (config.stage, config.audio_config.hidden_size, config.text_config.vocab_size) == (stage, 48, 200)


def test_weights_missing_from_a_checkpoint_are_initialised(tmp_path):
    model = reference_model(stage=2)
    model.save_pretrained(tmp_path)
    kept = {
        name: value
        for name, value in load_file(tmp_path / "model.safetensors").items()
        if not name.startswith(("audio_model", "tau"))
    }
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = HTCLModel.from_pretrained(tmp_path)
    assert_same_state(model, loaded, kept)
    assert [temperature.item() for temperature in loaded.temperatures] == pytest.approx([2.6] * 3)
    assert loaded.get_audio_features(mel("mel1")).isfinite().all()
    conv = loaded.audio_model.pos_conv_embed.conv
    assert 0 < conv.weight.std() < 0.2


def test_stage2_goes_on_from_stage1():
    stage1 = reference_model()
    torch.nn.init.constant_(stage1.tau, 3.5)
    stage2 = HTCLModel.for_stage2(stage1)
    assert_same_state(stage1, stage2, [name for name in stage1.state_dict() if name != "tau"])
    assert [temperature.item() for temperature in stage2.temperatures] == pytest.approx([3.5, 2.6, 2.6])
    assert (stage1.config.stage, stage2.config.stage) == (1, 2)
    with pytest.raises(ValueError, match="stage 1 model"):
        HTCLModel.for_stage2(stage2)


def test_stage2_under_reference_parity_keeps_the_encoders_only():
    stage1 = reference_model(reference_parity=True)
    torch.nn.init.constant_(stage1.tau, 3.5)
    stage2 = HTCLModel.for_stage2(stage1)
    encoders = [name for name in stage1.state_dict() if name.startswith(("audio_model", "text_model"))]
    assert_same_state(stage1, stage2, encoders)
    assert not torch.equal(stage1.audio_mlp[0].weight, stage2.audio_mlp[0].weight)
    assert [temperature.item() for temperature in stage2.temperatures] == pytest.approx([2.6] * 3)


def test_forward_embeds_what_is_given():
    model = reference_model(stage=2)
    text = tokens("tok1")
    output = model(mel("mel1"), None, text["input_ids"], text["attention_mask"])
    audio, words = model.get_audio_features(mel("mel1")), model.get_text_features(**text)
    torch.testing.assert_close(output.fusion_embedding, model.get_fusion_features(audio, words))
    only_text = model(input_ids=text["input_ids"], text_attention_mask=text["attention_mask"])
    assert only_text.audio_embedding is None and only_text.fusion_embedding is None
    torch.testing.assert_close(only_text.text_embedding, words)


def test_stage1_has_no_fusion():
    with pytest.raises(ValueError, match="for_stage2"):
        reference_model().get_fusion_features(torch.zeros(1, 16), torch.zeros(1, 16))


def test_mean_pooling_reads_real_tokens_only_and_has_no_idle_parameters():
    model = HTCLModel(reference_config(text_pooling="mean")).eval()
    text = tokens("tok1")
    embedding = model.get_text_features(**text)
    shortest = text["attention_mask"].sum(dim=1).argmin()
    length = text["attention_mask"][shortest].sum()
    alone = model.get_text_features(text["input_ids"][shortest : shortest + 1, :length])
    torch.testing.assert_close(embedding[shortest], alone[0], rtol=1e-5, atol=1e-5)
    embedding.sum().backward()
    idle = [n for n, p in model.named_parameters() if n.startswith("text") and p.grad is None]
    assert idle == []


def bert_folder(path, pooler):
    config = BertConfig(vocab_size=50, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    bert = BertModel(config, add_pooling_layer=pooler)
    bert.save_pretrained(path)
    return bert


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
def test_from_text_encoder(tmp_path, pooling):
    bert = bert_folder(tmp_path, pooler=True)
    model = HTCLModel.from_text_encoder(reference_config(text_pooling=pooling), tmp_path)
    assert model.config.text_config.hidden_size == model.text_mlp[0].in_features == 24
    assert_same_state(model.text_model, bert)
    assert (model.text_model.pooler is None) == (pooling == "mean")


def test_no_path_of_this_machine_is_saved(tmp_path):
    bert_folder(tmp_path / "bert", pooler=True)
    HTCLModel.from_text_encoder(reference_config(), tmp_path / "bert").save_pretrained(tmp_path / "stage1")
    stage2 = HTCLModel.for_stage2(HTCLModel.from_pretrained(tmp_path / "stage1"))
    stage2.save_pretrained(tmp_path / "stage2")
    for stage in ("stage1", "stage2"):
        assert str(tmp_path) not in (tmp_path / stage / "config.json").read_text()


def test_from_text_encoder_without_pooler(tmp_path):
    bert_folder(tmp_path, pooler=False)
    HTCLModel.from_text_encoder(reference_config(text_pooling="mean"), tmp_path)
    with pytest.raises(ValueError, match=r"lacks .*pooler.*text_pooling"):
        HTCLModel.from_text_encoder(reference_config(), tmp_path)
