"""The figures of a training step: what the log, TensorBoard and MLflow show."""

from __future__ import annotations

import contextlib
import math
import resource
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from htcl.errors import HTCLError
from htcl.training.stages import logit_scales


class StepMeter:
    """Measures the steps since the last record.

    Args:
        engine: DeepSpeed's.
        first: steps done before this run.
        total: steps of the stage.
        batch_size: samples of a global batch.
    """

    def __init__(self, engine: Any, first: int, total: int, batch_size: int) -> None:
        self._engine, self._total, self._batch_size = engine, total, batch_size
        self._start = self._last = time.monotonic()
        self._first = self._last_step = first
        self._waited, self._before = 0.0, {}  # type: ignore[var-annotated]

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent in the block is waiting for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    def before_update(self) -> None:
        """Take the figures that the optimizer's step changes: learning rates, and the gradient where it is whole."""
        rates = {f"lr_{group['name']}": float(group["lr"]) for group in self._engine.optimizer.param_groups}
        self._before = rates
        if not self._engine.zero_optimization():
            gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
            self._before["grad_norm"] = float(torch.nn.utils.get_total_norm(gradients))

    def record(self, done: int, losses: dict[str, float]) -> dict[str, Any] | None:
        """The figures of step `done`, beside its losses; every rank calls it, rank 0 gets them."""
        if dist.get_rank():
            return None
        now = time.monotonic()
        seconds, steps = now - self._last, done - self._last_step
        if self._engine.zero_optimization():  # ZeRO works it out within the step
            self._before["grad_norm"] = float(self._engine.get_global_grad_norm())
        record = {
            "global_step": done,
            "total": self._total,
            **losses,
            **logit_scales(self._engine.module.model),
            **self._before,
            "samples_per_second": steps * self._batch_size / seconds,
            "data_wait_share": self._waited / seconds,
            **_memory(),
            "eta_seconds": (self._total - done) * (now - self._start) / (done - self._first),
        }
        self._last, self._last_step, self._waited = now, done, 0.0
        return record


def mean_over_ranks(figures: dict[str, Tensor]) -> dict[str, float]:
    """Average figures, each [], over ranks, so that they do not depend on how many there are.

    All ranks must call it, with the same names.
    """
    values = torch.stack([figure.detach().float() for figure in figures.values()])
    dist.all_reduce(values)
    return dict(zip(figures, (values / dist.get_world_size()).tolist(), strict=True))


def check_finite(step: int, losses: dict[str, float], engine: Any) -> None:
    """Stop a run that has lost its weights: its checkpoints would replace the good ones.

    Args:
        step: the step that is done.
        losses: of this step, before its update.
        engine: DeepSpeed's; ZeRO leaves out updates without a finite gradient, and the learning rates fall behind.

    Raises:
        HTCLError: naming the step, on every rank.
    """
    lost = None
    if not math.isfinite(losses["loss"]):
        lost = f"the loss is {losses['loss']}"
    elif engine.skipped_steps or not _finite(engine.module):
        lost = "a gradient was not finite"
    if lost:
        raise HTCLError(
            f"{lost} at step {step} or before; lower the learning rates or training.gradient_clipping, "
            "or set training.precision to fp32; the checkpoint before is still there"
        )


def _finite(module: torch.nn.Module) -> bool:
    """Whether all weights that training changes are finite; one answer for all, so that a GPU is waited for once."""
    return bool(torch.stack([p.isfinite().all() for p in module.parameters() if p.requires_grad]).all())


def _memory() -> dict[str, float]:
    """Greatest memory so far, MB: of the process, and of its GPU where it has one."""
    found = {"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if torch.cuda.is_available():
        found["gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return found
