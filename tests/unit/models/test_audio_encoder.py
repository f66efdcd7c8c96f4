"""An embedding belongs to the song alone, whatever stands beside it in the batch."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.models import HTCLAudioConfig, HTCLModel

from .reference import mel, reference_config, reference_model

MODEL = reference_model().double()
LONGEST = 200


def embed_beside_longer_song(model, frames, padding):
    songs = mel("mel1")[:2].to(next(model.parameters()).dtype)
    songs[1, frames:] = padding
    mask = torch.ones(2, LONGEST, dtype=torch.long)
    mask[1, frames:] = 0
    return model.get_audio_features(songs, mask)[1]


@settings(max_examples=25)
@given(frames=st.integers(17, LONGEST), padding=st.sampled_from([0.0, 100.0, float("nan")]), grad=st.booleans())
def test_embedding_does_not_depend_on_padding(frames, padding, grad):
    with torch.set_grad_enabled(grad):
        alone = MODEL.get_audio_features(mel("mel1")[1:2, :frames].double())[0]
        beside = embed_beside_longer_song(MODEL, frames, padding)
    torch.testing.assert_close(beside, alone, rtol=0, atol=1e-12)


def test_embedding_does_not_depend_on_padding_in_single_precision():
    model = reference_model()
    alone = model.get_audio_features(mel("mel1")[1:2, :60])[0]
    beside = embed_beside_longer_song(model, 60, padding=100.0)
    assert (beside - alone).norm() < 1e-5 * alone.norm()


def test_gradient_does_not_depend_on_padding():
    gradients = []
    for padding in (0.0, float("nan")):
        model = reference_model()
        embed_beside_longer_song(model, 60, padding).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=0)


def test_reference_parity_does_depend_on_padding():
    model = reference_model(reference_parity=True)
    zeros, ones = (embed_beside_longer_song(model, 60, padding) for padding in (0.0, 1.0))
    assert (zeros - ones).abs().max() > 1e-3


def test_full_mask_equals_no_mask():
    songs = mel("mel1").double()
    torch.testing.assert_close(MODEL.get_audio_features(songs, torch.ones(6, LONGEST)), MODEL.get_audio_features(songs))


def test_position_mask_counts_whole_receptive_fields():
    mask = torch.arange(40) < torch.tensor([[40], [17], [16], [24], [25]])
    positions = MODEL.audio_model.feature_extractor.position_mask(mask).sum(dim=1)
    assert positions.tolist() == [3, 1, 0, 1, 2]


def test_min_frames():
    assert HTCLAudioConfig().min_frames == 17
    with pytest.raises(ValueError, match="16 frames"):
        MODEL.get_audio_features(torch.zeros(1, 16, 128).double())


def test_activation_checkpointing_changes_no_gradient():
    gradients = []
    for enable in (False, True):
        model = reference_model().train()
        if enable:
            model.activation_checkpointing_enable()
        torch.manual_seed(0)
        model.get_audio_features(mel("mel1")).square().sum().backward()
        gradients.append(model.audio_model.cls_token.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(StrictDataclassClassValidationError, match="multiple of num_attention_heads"):
        HTCLAudioConfig(hidden_size=48, num_attention_heads=5)
    with pytest.raises(StrictDataclassClassValidationError, match="one entry per layer"):
        HTCLAudioConfig(conv_kernels=[5, 3])


def test_fresh_model_is_finite_and_trains_every_parameter():
    model = HTCLModel(reference_config())
    model.get_audio_features(mel("mel1")).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("audio"):
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
