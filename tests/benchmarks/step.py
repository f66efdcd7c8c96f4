"""A training step against the bare forward, backward and optimizer step of the same modules on the same tensors."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import torch

from htcl.training.liveness import Liveness
from htcl.training.loop import Termination
from htcl.training.stages import parameter_groups
from htcl.training.step import SongEncoder, batch_loss
from tests.benchmarks.setting import (
    SIZE,
    batch_of,
    config_of,
    inputs_of,
    new_engine,
    new_mels,
    new_model,
    new_processor,
    train_on,
)
from tests.benchmarks.table import Line
from tests.benchmarks.timing import median_seconds

SONGS, FRAMES = 32, 400


def overhead(rounds: int) -> list[Line]:
    """One line for each stage."""
    return [_overhead(stage, rounds) for stage in (1, 2)]


def _overhead(stage: int, rounds: int) -> Line:
    songs = np.arange(SONGS).reshape(-1, stage)
    part = inputs_of(new_processor(), new_mels([FRAMES] * SONGS), list(range(SONGS)))
    batch = batch_of([part], songs, songs)
    engine = new_engine(stage, len(songs), new_model(stage))
    liveness, termination = Liveness(0, 600.0, pulses=True), Termination(timedelta(seconds=60))
    bare = SongEncoder(new_model(stage))
    config = config_of(stage, len(songs))
    groups = parameter_groups(bare.model, config.stage1 if stage == 1 else config.stage2)
    adam = torch.optim.Adam(groups)

    def ours() -> None:
        train_on(engine, batch, phase=lambda phase, part: liveness.at(0, phase, part))
        termination.anywhere()

    def theirs() -> None:
        loss, _ = batch_loss(*bare([part]), batch, parity=False)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
        adam.step()
        adam.zero_grad()

    with liveness.watched():
        mine, peer = median_seconds([ours, theirs], 5 * rounds)  # a step is short, and a few percent are looked for
    what = f"step of stage {stage}, {SONGS} songs of {FRAMES} frames ({SIZE}), against the bare modules"
    return Line(what, f"{mine * 1000:.0f} ms", f"{peer * 1000:.0f} ms", f"{mine / peer - 1:+.1%}", "at most +5 %")
