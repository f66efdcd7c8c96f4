"""Contrastive losses of both stages, exact over any number of ranks.

Embeddings of all ranks are gathered with their gradient (`gather_rows`), and a rank computes only its own rows of
the similarity matrix, in both directions. The mean of the gradients over ranks, which data parallelism takes, is
then the gradient of one process that holds the whole batch, and memory grows with own rows x batch.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from htcl.config import LossWeights

MAX_LOGIT_SCALE = math.log(100.0)


@dataclass(frozen=True)
class Corrections:
    """What is known of the columns of a similarity matrix, for this rank's rows.

    Attributes:
        false_negatives: bool [rows, batch], True where a column must not be pushed away; the positive itself
            always counts. None masks nothing.
        log_q: [batch], log probability with which the sampler draws each column, which its logits lose (sampled
            softmax; Bengio and Senecal 2008, Yi et al. 2019). None corrects nothing.
    """

    false_negatives: Tensor | None = None
    log_q: Tensor | None = None


NONE = Corrections()


@dataclass(frozen=True)
class PairCorrections:
    """The corrections of stage 2.

    Attributes:
        songs: between the own anchors, then the own positives [2 x rows], and all 2 x batch songs.
        forth: between own anchors and the positives of the batch.
        back: between own positives and the anchors of the batch.
    """

    songs: Corrections = NONE
    forth: Corrections = NONE
    back: Corrections = NONE


NO_PAIRS = PairCorrections()
EQUAL_WEIGHTS = LossWeights()


class _GatherRows(torch.autograd.Function):
    """Concatenate the rows of all ranks; the gradient of a row goes back to the rank it came from."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        return _gather(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.narrow(0, dist.get_rank() * ctx.count, ctx.count)


class _ClampBelow(torch.autograd.Function):
    """Clamp at a maximum, but pass a gradient that leads back below it: a plain clamp would never let go."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, maximum: float) -> Tensor:
        ctx.save_for_backward(value > maximum)
        return value.clamp(max=maximum)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        return grad.masked_fill(above & (grad < 0), 0.0), None


def clamp_logit_scale(logit_scale: Tensor) -> Tensor:
    """Hold a temperature at ln 100 or below, as CLIP does: beyond it training becomes unstable."""
    clamped: Tensor = _ClampBelow.apply(logit_scale, MAX_LOGIT_SCALE)  # type: ignore[no-untyped-call]
    return clamped


def gather_rows(rows: Tensor, with_gradient: bool = True) -> Tensor:
    """Concatenate `rows` [n, ...] of all ranks, in rank order; `rows` itself on one rank.

    Args:
        rows: as many on every rank.
        with_gradient: let the gradient of every row find its rank. Without it (the authors' code) each rank's
            own rows alone have one.
    """
    if _world_size() == 1:
        return rows
    if with_gradient and rows.requires_grad:
        gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
        return gathered
    everything = _gather(rows.detach())
    first = dist.get_rank() * len(rows)
    return torch.cat([everything[:first], rows, everything[first + len(rows) :]])


def contrastive_loss(
    a: Tensor,
    b: Tensor,
    logit_scale: Tensor,
    own: Tensor | None = None,
    forth: Corrections = NONE,
    back: Corrections = NONE,
) -> Tensor:
    """Symmetric cross-entropy of cosine similarity times exp(logit_scale) (InfoNCE).

    Args:
        a: [batch, size], embeddings of all ranks, of any norm.
        b: [batch, size], their counterparts; row i of `a` belongs to row i of `b`.
        logit_scale: [1] or [], a natural logarithm.
        own: int64 [rows], the rows that this rank computes; None computes all.
        forth: corrections of the columns `b`, for the own rows of `a`.
        back: corrections of the columns `a`, for the own rows of `b`.

    Returns:
        The mean over own rows and both directions, [], float32.
    """
    a, b = normalize(a.float(), dim=-1), normalize(b.float(), dim=-1)
    scale = logit_scale.float().exp()
    target = torch.arange(len(a), device=a.device) if own is None else own
    own_a, own_b = (a, b) if own is None else (a[own], b[own])
    one = cross_entropy(_corrected(scale * own_a @ b.T, target, forth), target)
    other = cross_entropy(_corrected(scale * own_b @ a.T, target, back), target)
    return (one + other) / 2


def _corrected(logits: Tensor, target: Tensor, corrections: Corrections) -> Tensor:
    if corrections.log_q is not None:
        logits = logits - corrections.log_q
    if corrections.false_negatives is not None:
        positive = torch.arange(logits.shape[1], device=logits.device) == target[:, None]
        logits = logits.masked_fill(corrections.false_negatives & ~positive, -math.inf)
    return logits


def stage1_loss(
    audio: Tensor,
    text: Tensor,
    tau: Tensor,
    own: Tensor | None = None,
    songs: Corrections = NONE,
    clamp: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Audio against text of the same songs (paper, stage 1).

    Args:
        audio: [batch, size], audio embeddings of all ranks.
        text: [batch, size], text embeddings of the same songs.
        tau: [1], temperature.
        own: int64 [rows], the rows that this rank computes; None computes all.
        songs: corrections between songs, the same in both directions.
        clamp: hold the temperature at ln 100 or below; off under reference parity.

    Returns:
        The loss, [], and its terms without gradient: `audio_text`.
    """
    total = contrastive_loss(audio, text, clamp_logit_scale(tau) if clamp else tau, own, songs, songs)
    return total, {"audio_text": total.detach()}


def stage2_loss(
    audio: tuple[Tensor, Tensor],
    text: tuple[Tensor, Tensor],
    fusion: tuple[Tensor, Tensor],
    taus: tuple[Tensor, Tensor, Tensor],
    own: Tensor | None = None,
    corrections: PairCorrections = NO_PAIRS,
    clamp: bool = True,
    weights: LossWeights = EQUAL_WEIGHTS,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Songs that the same listeners respond to, and the space of stage 1 kept (paper, stage 2).

    Args:
        audio: audio embeddings of the anchors and of their positives of all ranks, each [batch, size].
        text: text embeddings of the same songs.
        fusion: fusion embeddings of the same songs.
        taus: temperatures of audio-text, audio-audio and audio-fusion, each [1].
        own: int64 [rows], the pairs that this rank computes; None computes all.
        corrections: of the three kinds of comparison.
        clamp: hold the temperatures at ln 100 or below; off under reference parity.
        weights: of the three terms.

    Returns:
        The loss, [], and its terms, neither weighted nor with gradient: `audio_text` over all 2 x batch songs,
        `audio_audio`, and `audio_fusion`, the mean of anchor audio against positive fusion and the reverse.
    """
    tau_1, tau_2, tau_3 = (clamp_logit_scale(tau) if clamp else tau for tau in taus)
    both = None if own is None else torch.cat([own, own + len(audio[0])])
    audio_text = contrastive_loss(torch.cat(audio), torch.cat(text), tau_1, both, corrections.songs, corrections.songs)
    audio_audio = contrastive_loss(audio[0], audio[1], tau_2, own, corrections.forth, corrections.back)
    ahead = contrastive_loss(audio[0], fusion[1], tau_3, own, corrections.forth, corrections.back)
    reverse = contrastive_loss(fusion[0], audio[1], tau_3, own, corrections.forth, corrections.back)
    audio_fusion = (ahead + reverse) / 2
    terms = {"audio_text": audio_text, "audio_audio": audio_audio, "audio_fusion": audio_fusion}
    total = weights.audio_text * audio_text + weights.audio_audio * audio_audio + weights.audio_fusion * audio_fusion
    return total, {name: term.detach() for name, term in terms.items()}


def _gather(rows: Tensor) -> Tensor:
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
