"""Contrastive losses: their values, their masks, their own rows."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from htcl.config import LossWeights
from htcl.training.losses import (
    MAX_LOGIT_SCALE,
    Corrections,
    PairCorrections,
    clamp_logit_scale,
    contrastive_loss,
    stage1_loss,
    stage2_loss,
)

SIZE = 8


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scale(value=2.6):
    return torch.full((1,), value, requires_grad=True)


def test_aligned_embeddings_have_a_small_loss():
    a = normal(6, SIZE, seed=0)
    assert contrastive_loss(a, 3 * a, scale(4.6)) < contrastive_loss(a, a.roll(1, 0), scale(4.6))


def test_loss_is_symmetric_and_ignores_norms():
    a, b = normal(6, SIZE, seed=0), normal(6, SIZE, seed=1)
    expected = contrastive_loss(a, b, scale())
    torch.testing.assert_close(contrastive_loss(b, a, scale()), expected)
    torch.testing.assert_close(contrastive_loss(5 * a, b / 7, scale()), expected)


def test_half_precision_is_computed_in_single():
    a, b = normal(6, SIZE, seed=0).bfloat16(), normal(6, SIZE, seed=1).bfloat16()
    loss = contrastive_loss(a, b, scale().bfloat16())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, contrastive_loss(a.float(), b.float(), scale().bfloat16().float()))


def test_false_negatives_leave_the_denominator():
    a, b = normal(4, SIZE, seed=0), normal(4, SIZE, seed=1)
    mask = torch.eye(4, dtype=torch.bool)
    mask[0, 2] = True
    logits = math.exp(2.6) * normalize(a) @ normalize(b).T
    logits[0, 2] = -math.inf
    target = torch.arange(4)
    expected = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    masked = contrastive_loss(a, b, scale(), None, Corrections(mask), Corrections(mask.T))
    torch.testing.assert_close(masked, expected)


def test_only_own_rows_are_computed():
    a, b = normal(6, SIZE, seed=0), normal(6, SIZE, seed=1)
    mask, log_q = torch.rand(6, 6, generator=torch.Generator().manual_seed(2)) < 0.3, normal(6, seed=3)
    forth, back = Corrections(mask, log_q), Corrections(mask.T, 2 * log_q)
    parts = []
    for own in (torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])):
        mine = Corrections(mask[own], log_q), Corrections(mask.T[own], 2 * log_q)
        parts.append(contrastive_loss(a, b, scale(), own, *mine))
    torch.testing.assert_close(sum(parts) / 2, contrastive_loss(a, b, scale(), None, forth, back))


def test_logits_lose_the_log_probability_of_their_column():
    a, b, log_q = normal(4, SIZE, seed=0), normal(4, SIZE, seed=1), normal(4, seed=2)
    logits = math.exp(2.6) * normalize(a) @ normalize(b).T - log_q
    back = math.exp(2.6) * normalize(b) @ normalize(a).T
    expected = (cross_entropy(logits, torch.arange(4)) + cross_entropy(back, torch.arange(4))) / 2
    torch.testing.assert_close(contrastive_loss(a, b, scale(), forth=Corrections(log_q=log_q)), expected)


def test_a_sampler_that_draws_all_songs_alike_corrects_nothing():
    a, b = normal(4, SIZE, seed=0), normal(4, SIZE, seed=1)
    alike = Corrections(log_q=torch.full((4,), -3.0))
    torch.testing.assert_close(contrastive_loss(a, b, scale(), None, alike, alike), contrastive_loss(a, b, scale()))


def test_terms_of_stage_2_are_weighted_and_told_as_they_are():
    views, taus = [tuple(normal(2, 3, SIZE, seed=seed)) for seed in range(3)], (scale(), scale(), scale())
    _, terms = stage2_loss(*views, taus)
    weights = LossWeights(audio_text=0.5, audio_audio=3, audio_fusion=0)
    total, told = stage2_loss(*views, taus, weights=weights)
    torch.testing.assert_close(total, 0.5 * terms["audio_text"] + 3 * terms["audio_audio"])
    assert told == terms


def test_terms_of_stage_2_have_their_own_corrections():
    views = [tuple(normal(2, 3, SIZE, seed=seed)) for seed in range(3)]
    taus = (scale(), scale(), scale())
    mask = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)
    everything = torch.zeros(6, 6, dtype=torch.bool)
    everything[0, 2] = True
    known = PairCorrections(Corrections(everything), Corrections(mask), Corrections(mask.T))
    _, masked = stage2_loss(*views, taus, corrections=known)
    _, plain = stage2_loss(*views, taus)
    assert all(masked[name] < plain[name] for name in plain)
    audio, text, fusion = views
    both = Corrections(mask), Corrections(mask.T)
    expected = contrastive_loss(*audio, scale(), None, *both)
    torch.testing.assert_close(masked["audio_audio"], expected.detach())
    ahead = contrastive_loss(audio[0], fusion[1], scale(), None, *both)
    reverse = contrastive_loss(fusion[0], audio[1], scale(), None, *both)
    torch.testing.assert_close(masked["audio_fusion"], ((ahead + reverse) / 2).detach())
    songs = Corrections(everything)
    expected = contrastive_loss(torch.cat(audio), torch.cat(text), scale(), None, songs, songs)
    torch.testing.assert_close(masked["audio_text"], expected.detach())


@pytest.mark.parametrize(
    ("value", "wish", "moves"), [(2.6, -1, True), (2.6, 1, True), (5.0, -1, False), (5.0, 1, True)]
)
def test_clamp_holds_the_value_but_lets_it_come_back(value, wish, moves):
    parameter = scale(value)
    clamped = clamp_logit_scale(parameter)
    assert clamped.item() == pytest.approx(min(value, MAX_LOGIT_SCALE))
    (wish * clamped).sum().backward()
    assert bool(parameter.grad) == moves


def test_clamp_is_off_under_reference_parity():
    audio, text = normal(4, SIZE, seed=0), normal(4, SIZE, seed=1)
    clamped, _ = stage1_loss(audio, text, scale(6.0))
    free, terms = stage1_loss(audio, text, scale(6.0), clamp=False)
    torch.testing.assert_close(clamped, contrastive_loss(audio, text, scale(MAX_LOGIT_SCALE)))
    torch.testing.assert_close(free, contrastive_loss(audio, text, scale(6.0)))
    assert not terms["audio_text"].requires_grad
