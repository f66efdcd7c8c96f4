"""Contrastive losses of both stages, exact over any number of ranks.

Each rank passes its own rows; embeddings are gathered with their gradient, and a rank computes its own rows
of the similarity matrix in both directions. The mean of the gradients over ranks, which data parallelism
takes, is then the gradient of one process that holds the whole batch. All ranks must pass as many rows.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

MAX_LOGIT_SCALE = math.log(100.0)


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


def contrastive_loss(a: Tensor, b: Tensor, logit_scale: Tensor, false_negatives: Tensor | None = None) -> Tensor:
    """Symmetric cross-entropy of cosine similarity times exp(logit_scale) (InfoNCE).

    Args:
        a: [rows, size], this rank's embeddings, of any norm.
        b: [rows, size], their counterparts; row i of `a` belongs to row i of `b`.
        logit_scale: [1] or [], a natural logarithm.
        false_negatives: [batch, batch] bool over the rows of all ranks, True where row i of `a` and row j of
            `b` must not be pushed apart; the diagonal is not looked at.

    Returns:
        The mean over this rank's rows and both directions, [], float32.
    """
    a, b = normalize(a.float(), dim=-1), normalize(b.float(), dim=-1)
    all_a, all_b = gather_rows(a), gather_rows(b)
    scale = logit_scale.float().exp()
    first = dist.get_rank() * len(a) if _world_size() > 1 else 0
    target = torch.arange(first, first + len(a), device=a.device)
    logits_ab, logits_ba = scale * a @ all_b.T, scale * b @ all_a.T
    if false_negatives is not None:
        positive = torch.arange(len(all_a), device=a.device) == target[:, None]
        logits_ab = logits_ab.masked_fill(false_negatives[target] & ~positive, -math.inf)
        logits_ba = logits_ba.masked_fill(false_negatives.T[target] & ~positive, -math.inf)
    return (cross_entropy(logits_ab, target) + cross_entropy(logits_ba, target)) / 2


def stage1_loss(
    audio: Tensor, text: Tensor, tau: Tensor, *, song_ids: Tensor | None = None, clamp: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """Audio against text of the same songs (paper, stage 1).

    Args:
        audio: [rows, size], this rank's audio embeddings.
        text: [rows, size], text embeddings of the same songs.
        tau: [1], temperature.
        song_ids: [rows] int64; two rows of one song are then no negatives of each other.
        clamp: hold the temperature at ln 100 or below; off under reference parity.

    Returns:
        The loss, [], and its terms without gradient: `audio_text`.
    """
    scale = clamp_logit_scale(tau) if clamp else tau
    total = contrastive_loss(audio, text, scale, _same_song(song_ids))
    return total, {"audio_text": total.detach()}


def stage2_loss(
    audio: tuple[Tensor, Tensor],
    text: tuple[Tensor, Tensor],
    fusion: tuple[Tensor, Tensor],
    taus: tuple[Tensor, Tensor, Tensor],
    *,
    song_ids: tuple[Tensor, Tensor] | None = None,
    clamp: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Songs that the same listeners respond to, and the space of stage 1 kept (paper, stage 2).

    The weights of the three terms are 1, 1, 1.

    Args:
        audio: audio embeddings of the anchors and of their positives, each [rows, size].
        text: text embeddings of the same songs.
        fusion: fusion embeddings of the same songs.
        taus: temperatures of audio-text, audio-audio and audio-fusion, each [1].
        song_ids: of the anchors and of the positives, each [rows] int64; pairs that the batch itself shows to
            belong together are then no negatives.
        clamp: hold the temperatures at ln 100 or below; off under reference parity.

    Returns:
        The loss, [], and its terms without gradient: `audio_text` over all 2 x rows songs, `audio_audio`, and
        `audio_fusion`, the mean of anchor audio against positive fusion and the reverse.
    """
    tau_1, tau_2, tau_3 = (clamp_logit_scale(tau) if clamp else tau for tau in taus)
    known = _known_pairs(*song_ids) if song_ids is not None else None
    same = _same_song(torch.cat(song_ids)) if song_ids is not None else None
    audio_text = contrastive_loss(torch.cat(audio), torch.cat(text), tau_1, same)
    audio_audio = contrastive_loss(audio[0], audio[1], tau_2, known)
    forth = contrastive_loss(audio[0], fusion[1], tau_3, known)
    back = contrastive_loss(fusion[0], audio[1], tau_3, known)
    audio_fusion = (forth + back) / 2
    terms = {"audio_text": audio_text, "audio_audio": audio_audio, "audio_fusion": audio_fusion}
    return audio_text + audio_audio + audio_fusion, {name: term.detach() for name, term in terms.items()}


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate `rows` [n, ...] of all ranks, in rank order, with gradient; `rows` itself on one rank."""
    if _world_size() == 1:
        return rows
    if not rows.requires_grad:
        return _gather(rows)
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def _gather(rows: Tensor) -> Tensor:
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _same_song(song_ids: Tensor | None) -> Tensor | None:
    """Bool [batch, batch] over all ranks: one song in two rows."""
    if song_ids is None:
        return None
    ids = gather_rows(song_ids)
    return ids[:, None] == ids


def _known_pairs(anchors: Tensor, positives: Tensor) -> Tensor:
    """Bool [batch, batch] over all ranks: anchor i and positive j are one song, or a pair of the batch."""
    anchors, positives = gather_rows(anchors), gather_rows(positives)
    same_anchor = anchors[:, None] == anchors
    same_positive = positives[:, None] == positives
    return same_anchor | same_positive | (anchors[:, None] == positives)
