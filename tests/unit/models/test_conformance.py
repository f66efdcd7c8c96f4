"""Our numbers against the authors' implementation, to 1e-4 relative."""

import pytest
import torch

from htcl.models import HTCLConfig, HTCLModel
from htcl.training.losses import contrastive_loss, stage1_loss, stage2_loss

from .reference import VECTORS, matrix, mel, published_state, reference_config, reference_model, tokens

STAGES = pytest.mark.parametrize("stage", [1, 2])


def assert_conforms(value, expected):
    """Relative to the largest number, as some entries of a vector are close to zero."""
    expected = torch.as_tensor(expected)
    deviation = (value.detach() - expected).abs().max() / expected.abs().max()
    assert deviation < 2e-5, f"relative deviation {deviation:.1e}"


def assert_gradients_conform(model, norms):
    for name, norm in norms.items():
        assert_conforms(model.get_parameter(name).grad.norm(), norm)


@STAGES
def test_names_and_shapes_are_those_of_the_published_checkpoints(stage):
    expected = {name: shape or [1] for name, shape in VECTORS[f"stage{stage}_state_dict"].items()}
    state = HTCLModel(reference_config(stage)).state_dict()
    assert {name: list(value.shape) for name, value in state.items()} == expected


@STAGES
def test_names_at_full_size(stage):
    with torch.device("meta"):
        state = HTCLModel(HTCLConfig(stage=stage)).state_dict()
    assert set(VECTORS[f"stage{stage}_state_dict"]) <= set(state)
    assert list(state["audio_model.pos_conv_embed.conv.parametrizations.weight.original1"].shape) == [
        768,
        48,
        31,
    ]
    assert sum(name.endswith("self_attn.in_proj_weight") for name in state) == 12
    heads = {name: list(state[name].shape) for name in state if "_mlp." in name and name.endswith("weight")}
    assert heads["audio_mlp.0.weight"] == heads["text_mlp.0.weight"] == [384, 768]
    assert heads["audio_mlp.6.weight"] == [100, 192]
    if stage == 2:
        assert [heads[f"fusion_mlp.{i}.weight"] for i in (0, 3, 6)] == [[200, 200], [100, 200], [100, 100]]


def test_audio_encoder():
    hidden = reference_model().audio_model(mel("mel1")).last_hidden_state
    assert list(hidden.shape) == VECTORS["audio_hidden_shape"]
    assert_conforms(hidden[:, 0, :8], VECTORS["audio_hidden_cls8"])


@pytest.mark.parametrize("grad", [True, False], ids=["autograd", "inference fast path"])
def test_embeddings(grad):
    model = reference_model()
    with torch.set_grad_enabled(grad):
        output = model(mel("mel1"), input_ids=tokens("tok1")["input_ids"], **text_masks("tok1"))
    assert_conforms(output.audio_embedding, VECTORS["audio_embedding"])
    assert_conforms(output.text_embedding, VECTORS["text_embedding"])
    assert output.fusion_embedding is None


def text_masks(name):
    inputs = tokens(name)
    return {"text_attention_mask": inputs["attention_mask"], "token_type_ids": inputs["token_type_ids"]}


def test_contrastive_loss():
    loss = contrastive_loss(matrix("e1"), matrix("e2"), torch.tensor([2.6]))
    assert_conforms(loss, VECTORS["contrastive_loss_random"])


def test_stage1_loss_and_gradients():
    model = reference_model()
    audio, text = model.get_audio_features(mel("mel1")), model.get_text_features(**tokens("tok1"))
    loss, _ = stage1_loss(audio, text, *model.temperatures)
    assert_conforms(loss, VECTORS["stage1_loss"])
    loss.backward()
    assert_gradients_conform(model, VECTORS["stage1_grad_norms"])


def test_stage2_loss_and_gradients():
    model = reference_model(stage=2)
    audio = [model.get_audio_features(mel(name)) for name in ("mel1", "mel2")]
    text = [model.get_text_features(**tokens(name)) for name in ("tok1", "tok2")]
    fusion = [model.get_fusion_features(*pair) for pair in zip(audio, text, strict=True)]
    loss, terms = stage2_loss(tuple(audio), tuple(text), tuple(fusion), model.temperatures)
    assert_conforms(loss, VECTORS["stage2_loss"])
    assert_conforms(sum(terms.values()), VECTORS["stage2_loss"])
    loss.backward()
    assert_gradients_conform(model, VECTORS["stage2_grad_norms"])


def test_reference_parity_ignores_the_mask():
    model = reference_model(reference_parity=True)
    mask = torch.ones(6, 200)
    mask[:, 50:] = 0
    assert_conforms(model.get_audio_features(mel("mel1"), mask), VECTORS["audio_embedding"])


def test_a_published_checkpoint_has_temperatures_without_dimensions():
    state = published_state(stage=2)
    assert state["tau_1"].shape == ()
    model = HTCLModel(reference_config(stage=2))
    model.load_state_dict(state)
    assert [temperature.shape for temperature in model.temperatures] == [(1,)] * 3
