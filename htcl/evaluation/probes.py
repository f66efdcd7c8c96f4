"""Linear and MLP probes on frozen embeddings, after MARBLE's constrained protocol (Yuan et al. 2023).

One embedding a song (the mean over time is in it), a linear map or one hidden layer, Adam without weight decay, the
learning rate and the moment to stop chosen by a validation fold. Only songs that no training of the embeddings saw are
used, in folds that cut no split group; each song is asked once. The folds of a probe train as one, and
probes side by side.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor, nn

from htcl.card_config import ProbeConfig
from htcl.evaluation.labels import Labels

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
ProbeKind = Literal["linear", "mlp"]


@dataclass(frozen=True)
class Folds:
    """Who trains, chooses and is asked in each fold.

    Attributes:
        train: rows of each fold.
        validation: likewise.
        test: likewise; each row stands in one.
    """

    train: list[Int64]
    validation: list[Int64]
    test: list[Int64]


def group_folds(labels: Labels, groups: Int64, folds: int, seed: int = 0) -> Folds | None:
    """Folds of the labelled songs, classes spread over them, no split group cut.

    Args:
        labels: of a field.
        groups: split group of each labelled song [m].
        folds: how many; the fold after the one that is asked chooses.
        seed: of the assignment.

    Returns:
        The folds; None where there are fewer groups than folds.
    """
    if len(np.unique(groups)) < folds:
        return None
    rarest = labels.member * (1 + np.arange(len(labels.classes)))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer songs than folds is in some of them
        parts = [test for _, test in splitter.split(rarest, rarest.max(axis=1), groups)]
    nexts = parts[1:] + parts[:1]
    everyone = np.arange(len(groups))
    train = [np.setdiff1d(everyone, np.concatenate(pair)) for pair in zip(parts, nexts, strict=True)]
    return Folds(train, nexts, parts)


@dataclass(frozen=True)
class Probe:
    """What one probe learns.

    Attributes:
        vectors: embeddings of the labelled songs [m, d].
        labels: their classes.
        folds: from `group_folds`.
        kind: linear, or mlp with one hidden layer.
    """

    vectors: Float32
    labels: Labels
    folds: Folds
    kind: ProbeKind


def run_probes(probes: Sequence[Probe], config: ProbeConfig) -> list[Float32]:
    """Logits of every labelled song by the probe that did not see it, [m, classes] for each probe.

    Args:
        probes: trained side by side, one on each core: so small matrices gain nothing by more threads.
        config: the protocol.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(lambda probe: _logits(probe, config), probes))
    finally:
        torch.set_num_threads(threads)


def _logits(probe: Probe, config: ProbeConfig) -> Float32:
    vectors, labels, folds = probe.vectors, probe.labels, probe.folds
    inputs = torch.stack([_standardised(vectors, train) for train in folds.train])
    targets = torch.from_numpy(labels.member.astype(np.float32))
    random = torch.Generator().manual_seed(0)
    sizes = [inputs.shape[2], *([config.hidden_size] if probe.kind == "mlp" else []), targets.shape[1]]
    heads = [_Heads(sizes, len(folds.train), config.dropout, random) for _ in config.learning_rates]
    trained = [
        _train(head, rate, inputs, targets, folds, labels.kind, config)
        for head, rate in zip(heads, config.learning_rates, strict=True)
    ]
    losses = torch.stack([loss for loss, _ in trained])
    best = losses.argmin(dim=0)
    found = np.empty(targets.shape, np.float32)
    for fold, rows in enumerate(folds.test):
        found[rows] = trained[int(best[fold])][1][fold, rows].numpy()
    return found


def _standardised(vectors: Float32, train: Int64) -> Tensor:
    """Zero mean and unit variance by the training rows, as the first batch norm of a probe would have it."""
    mean, deviation = vectors[train].mean(axis=0), vectors[train].std(axis=0)
    return torch.from_numpy((vectors - mean) / np.where(deviation > 0, deviation, 1)).float()


class _Heads(nn.Module):
    """One probe for each fold, as batched matrices."""

    def __init__(self, sizes: list[int], folds: int, dropout: float, random: torch.Generator) -> None:
        super().__init__()
        self.dropout, self.random = dropout, random  # a generator of its own: probes train in threads
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            for values, rows in ((self.weights, fan_in), (self.biases, 1)):
                begun = torch.empty(folds, rows, fan_out)
                bound = fan_in**-0.5  # as nn.Linear begins
                values.append(nn.Parameter(begun.uniform_(-bound, bound, generator=random)))

    def forward(self, songs: Tensor) -> Tensor:
        """Map [folds, songs, inputs] to logits [folds, songs, classes]."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            songs = torch.baddbmm(bias, songs, weight)
            if layer + 1 < len(self.weights):
                songs = self._dropped(songs.relu()) if self.training else songs.relu()
        return songs

    def _dropped(self, songs: Tensor) -> Tensor:
        kept = torch.rand(songs.shape, generator=self.random) >= self.dropout
        return songs * kept / (1 - self.dropout)


def _train(
    heads: _Heads, rate: float, inputs: Tensor, targets: Tensor, folds: Folds, kind: str, config: ProbeConfig
) -> tuple[Tensor, Tensor]:
    """Train the heads of all folds at one learning rate.

    Returns:
        The best validation loss of each fold [folds], and the logits of all songs at that moment
        [folds, songs, classes].
    """
    generator = np.random.default_rng(0)
    optimizer = torch.optim.Adam(heads.parameters(), lr=rate, fused=True)
    best = torch.full((len(folds.train),), torch.inf)
    kept = torch.zeros(len(folds.train), *targets.shape)
    last_better = 0
    for epoch in range(config.epochs):
        heads.train()
        for rows in _batches(folds.train, config.batch_size, generator):
            chosen = torch.gather(inputs, 1, rows[..., None].expand(-1, -1, inputs.shape[2]))
            loss = _loss(heads(chosen), targets[rows], kind).mean(dim=1).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        heads.train(False)
        with torch.inference_mode():
            logits = heads(inputs)
            losses = _loss(logits, targets.expand_as(logits), kind)
            now = torch.stack([losses[fold, rows].mean() for fold, rows in enumerate(folds.validation)])
        better = now < best - 1e-4
        best, kept = torch.where(better, now, best), torch.where(better[:, None, None], logits, kept)
        if better.any():
            last_better = epoch
        elif epoch - last_better >= config.patience:
            break
    return best, kept


def _batches(train: list[Int64], size: int, generator: np.random.Generator) -> list[Tensor]:
    """Rows of each step [folds, size]; folds differ by a song or two, so the last batch is filled up."""
    longest = max(map(len, train))
    orders = np.stack([np.resize(generator.permutation(rows), longest) for rows in train])
    return [torch.from_numpy(orders[:, start : start + size]) for start in range(0, longest, size)]


def _loss(logits: Tensor, targets: Tensor, kind: str) -> Tensor:
    """Cross-entropy of each song [folds, songs]; over independent classes where there may be several."""
    if kind == "multiple":
        return nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=-1)
    return -(logits.log_softmax(dim=-1) * targets).sum(dim=-1)
