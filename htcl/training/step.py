"""One training step: songs to embeddings, embeddings of all ranks to the loss, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from htcl.models import HTCLModel
from htcl.training.batches import Batch, MicroBatch
from htcl.training.losses import gather_rows, stage1_loss, stage2_loss

FROZEN_TEXTS = 250_000
"""Texts whose frozen output a rank keeps: 400 MB at 384 numbers each."""

Loss = tuple[Tensor, dict[str, Tensor]]
"""The loss of a rank's own rows, [], and its terms without gradient."""


class SongEncoder(nn.Module):
    """A model as DeepSpeed wants it: micro-batches of songs to their embeddings, and the temperatures.

    Args:
        model: of either stage, with float32 weights.
        bf16: compute the embeddings in bfloat16 where torch's autocast holds that to be safe; weights, gradients
            and the loss stay float32.
    """

    def __init__(self, model: HTCLModel, bf16: bool = False) -> None:
        super().__init__()
        self.model, self._bf16 = model, bf16
        self._frozen = not any(parameter.requires_grad for parameter in model.text_model.parameters())
        self._known_texts: dict[int, Tensor] = {}

    def forward(self, micro_batches: list[MicroBatch]) -> tuple[Tensor, Tensor]:
        """Encode songs.

        Returns:
            Embeddings [songs, views, size], float32, the views being audio, text and in stage 2 fusion; and the
            temperatures [1 or 3], which have their gradient by this way too.
        """
        return torch.cat([self._encode(part) for part in micro_batches]), torch.cat(self.model.temperatures)

    def _encode(self, part: MicroBatch) -> Tensor:
        model = self.model
        with torch.autocast(part["songs"].device.type, torch.bfloat16, enabled=self._bf16):
            audio = model.get_audio_features(part["input_features"], part.get("attention_mask"))
            text = model.text_mlp(self._pooled_text(part))
            views = [audio, text]
            if model.config.stage == 2:
                views.append(model.get_fusion_features(audio, text))
        return torch.stack([view.float() for view in views], dim=1)

    def _pooled_text(self, part: MicroBatch) -> Tensor:
        """Output of the text encoder; a frozen one is asked once for a text that is kept."""
        if not self._frozen:
            return self._read(part["input_ids"], part["text_attention_mask"], part.get("token_type_ids"))
        self.model.text_model.train(False)  # a constant must not depend on dropout
        texts = part["texts"].tolist()
        found = {text: self._known_texts[text] for text in texts if text in self._known_texts}
        for place, text in enumerate(texts):
            if text < FROZEN_TEXTS and text not in found:
                # In a batch its last bits would depend on which texts are new with it.
                found[text] = self._known_texts[text] = self._read_places(part, [place])[0]
        if others := [place for place, text in enumerate(texts) if text >= FROZEN_TEXTS]:
            found |= zip([texts[place] for place in others], self._read_places(part, others), strict=True)
        return torch.stack([found[text] for text in texts])

    def _read_places(self, part: MicroBatch, places: list[int]) -> Tensor:
        """Pooled text [places, hidden] of some songs of a micro-batch, padded to the longest of them."""
        tokens = int(part["text_attention_mask"][places].sum(dim=1).max())
        names = ("input_ids", "text_attention_mask", "token_type_ids")
        ids, mask, types = (part[name][places, :tokens] if name in part else None for name in names)
        assert ids is not None
        return self._read(ids, mask, types)

    def _read(self, ids: Tensor, mask: Tensor | None, types: Tensor | None) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            return self.model.pooled_text(ids, mask, types)


def batch_loss(embeddings: Tensor, scales: Tensor, batch: Batch, parity: bool) -> Loss:
    """The loss of this rank's own rows.

    Args:
        embeddings: [songs, views, size], what this rank encoded of the batch.
        scales: [1 or 3], temperatures.
        batch: which song belongs to which sample, and what is no negative.
        parity: the authors' loss: gathered embeddings carry no gradient, every rank computes the whole matrix, and
            no temperature is clamped.
    """
    table = gather_rows(embeddings, with_gradient=not parity)
    if batch.places.shape[1] == 1:
        audio, text = table[batch.places[:, 0]].unbind(1)
        return stage1_loss(audio, text, scales, batch.own, batch.between_songs(), clamp=not parity)
    anchors, positives = (table[places].unbind(1) for places in batch.places.unbind(1))
    audios, texts, fusions = zip(anchors, positives, strict=True)
    first, second, third = scales.unbind()
    taus = (first, second, third)
    return stage2_loss(
        audios, texts, fusions, taus, batch.own, batch.between_pairs(), clamp=not parity, weights=batch.weights
    )


def forward_backward(
    engine: Any, batch: Batch, cached: bool, seed: Callable[[int], None], phase: Callable[[str, int], None]
) -> Loss:
    """Loss of a batch, its gradient left with the engine for the optimizer's step.

    Args:
        engine: DeepSpeed's, around a `SongEncoder`.
        batch: on the engine's device.
        cached: encode without activations first, then each micro-batch again with its part of the gradient
            (gradient caching; Gao et al. 2021): the memory is that of one micro-batch, the gradient the same.
        seed: called with the number of a micro-batch before it is encoded, so that both passes drop out alike.
        phase: told what begins, forward, exchange or backward, and with which micro-batch.

    Returns:
        The loss of this rank's rows and its terms, without gradient.
    """
    parity = bool(engine.module.model.config.reference_parity)
    if not cached or len(batch.micro_batches) == 1:
        phase("forward", 0)
        seed(0)
        embeddings, scales = engine(batch.micro_batches)
        phase("exchange", 0)
        loss, terms = batch_loss(embeddings, scales, batch, parity)
        phase("backward", 0)
        engine.set_gradient_accumulation_boundary(True)
        engine.backward(loss)
        return loss.detach(), terms
    embeddings, scales = _encode_without_gradient(engine.module, batch.micro_batches, seed, phase)
    phase("exchange", 0)
    loss, terms = batch_loss(embeddings, scales, batch, parity)
    loss.backward()  # type: ignore[no-untyped-call]
    assert embeddings.grad is not None and scales.grad is not None
    _backward_again(engine, batch.micro_batches, (embeddings.grad, scales.grad), seed, phase)
    return loss.detach(), terms


def _encode_without_gradient(
    encoder: nn.Module, parts: list[MicroBatch], seed: Callable[[int], None], phase: Callable[[str, int], None]
) -> tuple[Tensor, Tensor]:
    """Embeddings and temperatures as leaves that collect the gradient of the loss."""
    found = []
    with torch.no_grad():
        for number, part in enumerate(parts):
            phase("forward", number)
            seed(number)
            embeddings, scales = encoder([part])
            found.append(embeddings)
    return torch.cat(found).requires_grad_(), scales.detach().clone().requires_grad_()


def _backward_again(
    engine: Any,
    parts: list[MicroBatch],
    gradients: tuple[Tensor, Tensor],
    seed: Callable[[int], None],
    phase: Callable[[str, int], None],
) -> None:
    """Encode each micro-batch again and pass its part of the gradients, of embeddings and scales, on to the weights."""
    start, (grad, scale_grad) = 0, gradients
    for number, part in enumerate(parts):
        phase("backward", number)
        seed(number)
        engine.set_gradient_accumulation_boundary(number == len(parts) - 1)
        embeddings, scales = engine([part])
        end = start + len(embeddings)
        # Every part carries its share of the temperatures' gradient: ZeRO waits for all weights in each backward.
        engine.backward((embeddings * grad[start:end]).sum() + (scales * scale_grad).sum() / len(parts))
        start = end
