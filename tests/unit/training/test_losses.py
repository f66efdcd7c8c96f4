"""Contrastive losses: their values, their masks, and that ranks change nothing."""

import math

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy, normalize

from htcl.training.losses import (
    MAX_LOGIT_SCALE,
    clamp_logit_scale,
    contrastive_loss,
    stage1_loss,
    stage2_loss,
)

WORLD, ROWS, SIZE = 2, 3, 8


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
    torch.testing.assert_close(contrastive_loss(a, b, scale(), mask), expected)


def test_songs_that_occur_twice_are_no_negatives():
    audio, text = normal(4, SIZE, seed=0), normal(4, SIZE, seed=1)
    distinct, twice = torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 1])
    plain, _ = stage1_loss(audio, text, scale())
    torch.testing.assert_close(stage1_loss(audio, text, scale(), song_ids=distinct)[0], plain)
    assert stage1_loss(audio, text, scale(), song_ids=twice)[0] < plain


def test_pairs_that_the_batch_links_are_no_negatives():
    views = [tuple(normal(2, 3, SIZE, seed=seed)) for seed in range(3)]
    taus = (scale(), scale(), scale())
    # Song 1 goes with 5 and with 6, so that neither may be pushed away from it.
    linked = (torch.tensor([1, 2, 1]), torch.tensor([5, 4, 6]))
    _, masked = stage2_loss(*views, taus, song_ids=linked)
    _, plain = stage2_loss(*views, taus)
    assert all(masked[name] < plain[name] for name in plain)
    anchors, positives = views[0]
    mask = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)
    torch.testing.assert_close(masked["audio_audio"], contrastive_loss(anchors, positives, scale(), mask).detach())


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


def gradients(rank, world, masked):
    """Loss and gradients of both stages for this rank's rows of one batch; `weight` stands for a model."""
    weight = normal(3, SIZE, SIZE, seed=9).requires_grad_()
    taus = [scale(2.6), scale(3.0), scale(2.0)]
    batch = normal(2, 3, WORLD * ROWS, SIZE, seed=10).chunk(world, dim=2)[rank]
    ids = torch.tensor([[1, 2, 3, 1, 4, 5], [6, 7, 8, 9, 2, 6]]).chunk(world, dim=1)[rank]
    audio, text, fusion = (tuple(batch[:, view] @ weight[view]) for view in range(3))
    first, _ = stage1_loss(audio[0], text[0], taus[0], song_ids=ids[0] if masked else None)
    second, _ = stage2_loss(audio, text, fusion, tuple(taus), song_ids=tuple(ids) if masked else None)
    loss = first + second
    loss.backward()
    return [loss.detach().reshape(1), weight.grad, *(tau.grad for tau in taus)]


def compare_with_one_process(rank, store):
    torch.set_num_threads(1)
    expected = [gradients(0, 1, masked) for masked in (False, True)]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    for masked in (False, True):
        for value, whole in zip(gradients(rank, WORLD, masked), expected[masked], strict=True):
            dist.all_reduce(value)
            torch.testing.assert_close(value / WORLD, whole, rtol=1e-5, atol=1e-6)
    dist.destroy_process_group()


def test_two_ranks_have_the_gradient_of_one_process(tmp_path):
    torch.multiprocessing.spawn(compare_with_one_process, (str(tmp_path / "store"),), nprocs=WORLD)
