"""The training loop of one rank, by DeepSpeed, the same from one process to many hosts."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch import Tensor
from transformers import get_scheduler

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig, StageConfig
from htcl.errors import HTCLError
from htcl.logs import get_logger, log
from htcl.models import HTCLModel, HTCLProcessor
from htcl.plan import Step
from htcl.shards.index import read_index
from htcl.storage import join, write_bytes
from htcl.training.card import METRICS_FILE, write_model_card
from htcl.training.data import Samples, Schedule, Songs, batches, stage1_samples, stage2_samples
from htcl.training.launch import MARKER
from htcl.training.stages import StageModule, load_model, logit_scales, new_stage1, parameter_groups, set_dropout

TAG = "step-"
"""Starts the folder name of a checkpoint, before its step."""
LATEST = "latest"
"""Beside the checkpoints: the folder name of the newest that all ranks have written."""
KEPT_CHECKPOINTS = 2


def train(config: PipelineConfig, step: Step, out: Path, work: Path) -> None:
    """Train one stage as one of its ranks; rank 0 writes the model folder.

    Args:
        config: the configuration.
        step: stage1 or stage2, with the keys of what it reads.
        out: folder for the model (rank 0).
        work: folder that all ranks share: checkpoints, metrics, the nonce.

    Raises:
        HTCLError: too few samples, storage that is not shared.
    """
    stage: StageConfig = config.stage1 if step.name == "stage1" else config.stage2
    epochs = int(step.recipe.section[step.name]["epochs"])  # a fine-tune has fewer than the stage
    timeout = timedelta(seconds=config.training.collective_timeout_seconds)
    deepspeed.init_distributed(timeout=timeout, verbose=False)
    # DeepSpeed chooses the rank's GPU with the engine, which is after the first collective.
    get_accelerator().set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.manual_seed(config.training.seed)
    check_shared_storage(work)
    store = ArtifactStore(config.workspace)
    index_folder = store.fetch("shards", step.recipe.inputs["shards"])
    model, processor = _initial_model(config, step, store)
    set_dropout(model, stage.dropout)
    index = read_index(index_folder)
    samples = _samples(step, store, index)
    schedule = Schedule(
        samples, stage.global_batch_size, epochs, config.training.seed, dist.get_rank(), dist.get_world_size()
    )
    if not schedule.total_steps:
        raise HTCLError(
            f"{step.name}: {len(samples.songs)} samples do not fill one batch; lower "
            f"{step.name}.global_batch_size (now {stage.global_batch_size})"
        )
    catalog = store.fetch("catalog", step.recipe.inputs["catalog"])
    songs = Songs(join(config.workspace, "shards"), index, catalog, processor.text_fields, processor)
    engine = _engine(config, stage, model, schedule.total_steps)
    _run(config, step, engine, schedule, songs, work)
    _save(config, step, engine, model, processor, schedule, out, work)


def check_shared_storage(work: Path) -> None:
    """Every rank must read the nonce that rank 0 wrote, or the hosts do not share the workspace.

    Raises:
        HTCLError: naming the host that does not see it.
    """
    nonce = [os.urandom(8).hex()]
    dist.broadcast_object_list(nonce, src=0)
    path = work / f"nonce-{nonce[0]}"
    if dist.get_rank() == 0:
        work.mkdir(parents=True, exist_ok=True)
        path.write_text(nonce[0])
    dist.barrier()
    missing: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(missing, None if path.exists() else socket.gethostname())
    dist.barrier()
    if dist.get_rank() == 0:
        path.unlink()
    hosts = sorted({host for host in missing if host})
    if hosts:
        raise HTCLError(f"the workspace is not shared: {', '.join(hosts)} does not see {work}; mount it on all hosts")


def _initial_model(config: PipelineConfig, step: Step, store: ArtifactStore) -> tuple[HTCLModel, HTCLProcessor]:
    if step.name == "stage1":
        return new_stage1(config)
    if champion := step.recipe.inputs.get("champion"):
        return load_model(store.fetch("stage2", champion))
    stage1, processor = load_model(store.fetch("stage1", step.recipe.inputs["stage1"]))
    return HTCLModel.for_stage2(stage1), processor


def _samples(step: Step, store: ArtifactStore, index: Any) -> Samples:
    if step.name == "stage1":
        return stage1_samples(index)
    return stage2_samples(index, store.fetch("pairs", step.recipe.inputs["pairs"]))


def _engine(config: PipelineConfig, stage: StageConfig, model: HTCLModel, steps: int) -> Any:
    training = config.training
    schedule = {"constant": "constant_with_warmup"}.get(stage.lr_scheduler_type, stage.lr_scheduler_type)
    warmup = round(stage.warmup_ratio * steps)
    optimizer = torch.optim.Adam(parameter_groups(model, stage))
    settings = {
        "train_batch_size": stage.global_batch_size,
        "train_micro_batch_size_per_gpu": stage.global_batch_size // dist.get_world_size(),
        "gradient_clipping": training.gradient_clipping,
        "zero_optimization": {"stage": training.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    # DeepSpeed's own bf16 rounds the weights that are published; its torch_autocast rounds what ranks exchange.
    module = StageModule(model, bf16=training.precision == "bf16")
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        lr_scheduler=lambda adam: get_scheduler(schedule, adam, warmup, steps),
        config=settings,
    )
    return engine


def _run(config: PipelineConfig, step: Step, engine: Any, schedule: Schedule, songs: Songs, work: Path) -> None:
    training, logger = config.training, get_logger(step.name)
    checkpoints = work / "checkpoints"
    first = _resume(engine, checkpoints)
    metrics = work / METRICS_FILE
    rank0 = dist.get_rank() == 0
    if rank0:
        _forget_metrics_from(metrics, first)
        log(
            logger,
            "training",
            samples=len(schedule.samples.songs),
            steps=schedule.total_steps,
            first_step=first,
            ranks=schedule.world_size,
            batch=schedule.batch_size,
        )
    engine.train()
    started = last = time.monotonic()
    waited, since = 0.0, first
    for number, rows, inputs in batches(schedule, songs, first):
        waited += time.monotonic() - last
        _seed_step(training.seed, number)
        loss, terms = engine(*to_device((inputs, torch.from_numpy(rows)), engine.device))
        engine.backward(loss)
        done = number + 1
        logged = done % training.log_every_steps == 0 or done == schedule.total_steps
        norm = _gradient_norm(engine) if logged and rank0 else 0.0
        rate_of_heads = engine.optimizer.param_groups[-1]["lr"]
        engine.step()
        losses = mean_over_ranks({"loss": loss, **terms}) if logged else {}
        if logged and rank0:
            now = time.monotonic()
            rate = (done - since) / (now - started)
            record = {
                "global_step": done,
                "total": schedule.total_steps,
                **losses,
                **logit_scales(engine.module.model),
                "lr": rate_of_heads,
                "grad_norm": norm,
                "samples_per_second": rate * schedule.batch_size,
                "data_wait_share": waited / (now - started),
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "eta_seconds": (schedule.total_steps - done) / rate,
            }
            log(logger, "step", **record)
            with metrics.open("a") as lines:
                lines.write(json.dumps(record) + "\n")
        if done % training.checkpoint_every_steps == 0 and done < schedule.total_steps:
            _save_checkpoint(engine, checkpoints, done)
        last = time.monotonic()


def to_device(batch: Any, device: torch.device | str) -> Any:
    """A batch with every tensor of it on a device; dictionaries, lists and tuples are followed."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def mean_over_ranks(figures: dict[str, Tensor]) -> dict[str, float]:
    """Average figures, each [], over ranks, so that they do not depend on how many there are.

    All ranks must call it, with the same names.
    """
    values = torch.stack([figure.detach().float() for figure in figures.values()])
    dist.all_reduce(values)
    return dict(zip(figures, (values / dist.get_world_size()).tolist(), strict=True))


def _seed_step(seed: int, step: int) -> None:
    """Dropout depends on seed, step and rank alone: a resumed run repeats it, and ranks differ."""
    state = np.random.SeedSequence([seed, step, dist.get_rank()]).generate_state(2, np.uint32)
    torch.manual_seed(int(state[0]) << 32 | int(state[1]))


def _gradient_norm(engine: Any) -> float:
    """Norm of the averaged gradient before clipping; ZeRO and bf16 know it only from the step before."""
    known = engine.get_global_grad_norm()
    if known is not None:
        return float(known)
    gradients = [p.grad for p in engine.module.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0


def _save_checkpoint(engine: Any, checkpoints: Path, step: int) -> None:
    """Save the newest checkpoint and drop all but it and the one before."""
    # DeepSpeed would name it the latest before the other ranks have written their parts.
    engine.save_checkpoint(str(checkpoints), tag=f"{TAG}{step}", client_state={"step": step}, save_latest=False)
    if dist.get_rank() == 0:  # the call above ended with a barrier: all parts are there
        write_bytes(str(checkpoints / LATEST), f"{TAG}{step}".encode())
        prune_checkpoints(checkpoints, step)


def prune_checkpoints(checkpoints: Path, step: int) -> None:
    """Keep the checkpoints of `step` and of the one before; what lies beyond `step` a crash left half-written."""
    steps = {int(path.name.removeprefix(TAG)): path for path in checkpoints.glob(f"{TAG}*")}
    kept = sorted(number for number in steps if number <= step)[-KEPT_CHECKPOINTS:]
    for number in steps.keys() - set(kept):
        shutil.rmtree(steps[number])


def _resume(engine: Any, checkpoints: Path) -> int:
    """The step to go on from: that of the newest checkpoint, or 0."""
    latest = checkpoints / LATEST
    if not latest.exists():
        return 0
    path, state = engine.load_checkpoint(str(checkpoints), tag=latest.read_text())
    return int(state["step"]) if path else 0


def _forget_metrics_from(metrics: Path, step: int) -> None:
    """Steps that are trained again are logged again."""
    if metrics.exists():
        lines = [line for line in metrics.read_text().splitlines() if json.loads(line)["global_step"] <= step]
        metrics.write_text("".join(f"{line}\n" for line in lines))


def _save(
    config: PipelineConfig,
    step: Step,
    engine: Any,
    model: HTCLModel,
    processor: HTCLProcessor,
    schedule: Schedule,
    out: Path,
    work: Path,
) -> None:
    if dist.get_rank() == 0:
        model.train(False)
        model.save_pretrained(out)
        processor.save_pretrained(out)
        shutil.copy(work / METRICS_FILE, out / METRICS_FILE)
        write_model_card(out, config, step, len(schedule.samples.songs), schedule.total_steps)
        (out / MARKER).write_text("")
    dist.barrier()
    engine.destroy()
    dist.destroy_process_group()
