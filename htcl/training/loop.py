"""The training of one rank, by DeepSpeed, the same from one process to many hosts."""

from __future__ import annotations

import os
import signal
import socket
import time
from datetime import timedelta
from typing import Any

import deepspeed
import numpy as np
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from transformers import get_scheduler

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig, Stage2Config, StageConfig
from htcl.errors import HTCLError, Interrupted
from htcl.logs import get_logger, log
from htcl.models import HTCLModel, HTCLProcessor
from htcl.models.untrained import new_stage1
from htcl.plan import Step
from htcl.shards.index import read_index
from htcl.training.batches import Batch, Loader, Songs
from htcl.training.card import write_metrics, write_model_card
from htcl.training.checkpoints import Records, load_checkpoint, save_checkpoint
from htcl.training.liveness import PATIENCE, SAVE, Liveness
from htcl.training.metrics import StepMeter, check_finite, mean_over_ranks
from htcl.training.samples import Samples, stage1_samples, stage2_samples
from htcl.training.schedule import Schedule
from htcl.training.stages import load_model, parameter_groups, set_dropout
from htcl.training.step import Loss, SongEncoder, forward_backward
from htcl.training.tracking import Tracker
from htcl.training.validation import validate

TIMEOUT_MARGIN_SECONDS = 30
"""A collective waits so much longer than any phase of a rank may last: the rank that stalls is found before."""
SEEN_SECONDS = 10.0
"""A network file system may show a new file to other hosts so late."""


def train(config: PipelineConfig, step: Step, liveness: Liveness) -> None:
    """Train one stage as one of its ranks, which have met (`join_ranks`); rank 0 publishes the model.

    A run that is started again goes on from the newest whole checkpoint of the same key.

    Args:
        config: the configuration.
        step: stage1 or stage2, with the keys of what it reads.
        liveness: is told where the rank is.

    Raises:
        HTCLError: too few samples, a batch that the ranks cannot share out, storage that is not shared.
        Interrupted: after SIGTERM.
    """
    stage: StageConfig = config.stage1 if step.name == "stage1" else config.stage2
    started = time.monotonic()
    work = work_folder(config, step)
    torch.manual_seed(config.training.seed)
    check_shared_storage(config.workspace, work)
    store = ArtifactStore(config.workspace)
    model, processor = _initial_model(config, step, store)
    set_dropout(model, stage.dropout)
    loader = _loader(config, step, stage, store, processor)
    schedule = loader.schedule
    engine = start_engine(config, stage, model, schedule.total_steps)
    records = _run(config, step, engine, loader, work, liveness)
    liveness.at(schedule.total_steps, "validate")
    results = validate(model, processor, loader.songs, step.name)
    liveness.at(schedule.total_steps, SAVE)
    if dist.get_rank() == 0:
        with store.create(step.recipe, started) as draft:
            model.save_pretrained(draft.path)
            processor.save_pretrained(draft.path)
            write_metrics(draft.path, records)
            write_model_card(draft.path, config, step, schedule, records, results)
            draft.figures = {"processes": dist.get_world_size()}
        storage.remove_folder(work)  # checkpoints have served once the model is published
    engine.destroy()  # without waiting for rank 0: an upload may take longer than a collective
    dist.destroy_process_group()


def work_folder(config: PipelineConfig, step: Step) -> str:
    """Folder or URI for the checkpoints of a run, in the workspace, which all ranks share."""
    return storage.join(config.workspace, "training", f"{step.name}-{step.key}")


def join_ranks(config: PipelineConfig) -> None:
    """Meet the other ranks; who they are stands in RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT."""
    deepspeed.init_distributed(timeout=_timeout(config), verbose=False)
    # DeepSpeed chooses the rank's GPU with the engine, which is after the first collective.
    get_accelerator().set_device(int(os.environ.get("LOCAL_RANK", "0")))


def _timeout(config: PipelineConfig) -> timedelta:
    return timedelta(seconds=PATIENCE * config.training.stall_seconds + TIMEOUT_MARGIN_SECONDS)


def check_shared_storage(workspace: str, work: str) -> None:
    """Every rank must read the nonce that rank 0 wrote, or the hosts do not share the workspace.

    Args:
        workspace: folder or URI that all hosts share.
        work: folder of this run in it.

    Raises:
        HTCLError: naming the hosts that do not see it.
    """
    nonce = [os.urandom(8).hex()]
    dist.broadcast_object_list(nonce, src=0)
    uri = storage.join(work, f"nonce-{nonce[0]}")
    if dist.get_rank() == 0:
        storage.write_bytes(uri, nonce[0].encode())
    dist.barrier()
    missing: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(missing, None if _appears(uri) else socket.gethostname())
    dist.barrier()
    if dist.get_rank() == 0:
        fs, path = storage.filesystem(uri)
        fs.rm_file(path)
    if hosts := sorted({host for host in missing if host}):
        raise HTCLError(
            f"the workspace is not shared: {', '.join(hosts)} does not see what rank 0 wrote to {workspace}; "
            "mount one file system there on all hosts"
        )


def _appears(uri: str) -> bool:
    deadline = time.monotonic() + SEEN_SECONDS
    while not storage.exists(uri):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _initial_model(config: PipelineConfig, step: Step, store: ArtifactStore) -> tuple[HTCLModel, HTCLProcessor]:
    if step.name == "stage1":
        return new_stage1(config)
    if champion := step.recipe.inputs.get("champion"):
        return load_model(store.fetch("stage2", champion))
    stage1, processor = load_model(store.fetch("stage1", step.recipe.inputs["stage1"]))
    return HTCLModel.for_stage2(stage1), processor


def _loader(
    config: PipelineConfig, step: Step, stage: StageConfig, store: ArtifactStore, processor: HTCLProcessor
) -> Loader:
    index = read_index(store.fetch("shards", step.recipe.inputs["shards"]))
    samples = _samples(step, stage, store, index)
    epochs = int(step.recipe.section[step.name]["epochs"])  # a fine-tune has fewer than the stage
    share = stage.hard_negative_share if isinstance(stage, Stage2Config) else 0.0
    schedule = Schedule(samples, stage.global_batch_size, epochs, config.training.seed, share)
    world = dist.get_world_size()
    if epochs and not schedule.total_steps:
        raise HTCLError(
            f"{step.name}: {len(samples.songs)} samples do not fill one batch; lower "
            f"{step.name}.global_batch_size (now {stage.global_batch_size})"
        )
    if stage.global_batch_size % world:
        raise HTCLError(
            f"{step.name}.global_batch_size = {stage.global_batch_size} is not a multiple of the {world} ranks; "
            "change one of them"
        )
    catalog = store.fetch("catalog", step.recipe.inputs["catalog"])
    songs = Songs(storage.join(config.workspace, "shards"), index, catalog, processor.text_fields, processor)
    # A fine-tune goes on as its champion was trained, whatever the settings of new models are.
    micro, parity = config.training.micro_batch_size, processor.reference_parity
    return Loader(schedule, songs, stage, dist.get_rank(), world, micro, parity)


def _samples(step: Step, stage: StageConfig, store: ArtifactStore, index: Any) -> Samples:
    if step.name == "stage1":
        return stage1_samples(index)
    return stage2_samples(index, store.fetch("pairs", step.recipe.inputs["pairs"]), stage.mask_false_negatives)


def start_engine(config: PipelineConfig, stage: StageConfig, model: HTCLModel, steps: int) -> Any:
    """DeepSpeed's engine around the model, with the stage's optimizer and learning rates."""
    training = config.training
    if training.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    schedule = {"constant": "constant_with_warmup"}.get(stage.lr_scheduler_type, stage.lr_scheduler_type)
    warmup = round(stage.warmup_ratio * steps)
    optimizer = torch.optim.Adam(parameter_groups(model, stage))
    settings = {
        **training.deepspeed,
        "train_batch_size": stage.global_batch_size,
        "train_micro_batch_size_per_gpu": stage.global_batch_size // dist.get_world_size(),
        # The authors clip nothing.
        "gradient_clipping": 0.0 if model.config.reference_parity else training.gradient_clipping,
        "zero_optimization": {**training.deepspeed.get("zero_optimization", {}), "stage": training.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    # DeepSpeed's own bf16 rounds the weights that are published; its torch_autocast rounds what ranks exchange.
    encoder = SongEncoder(model, training.precision == "bf16")
    engine, *_ = deepspeed.initialize(
        model=encoder,
        optimizer=optimizer,
        lr_scheduler=lambda adam: get_scheduler(schedule, adam, warmup, steps),
        config=settings,
    )
    return engine


def _run(
    config: PipelineConfig,
    step: Step,
    engine: Any,
    loader: Loader,
    work: str,
    liveness: Liveness,
) -> Records:
    """All steps from the newest checkpoint on; returns the training log."""
    training, schedule = config.training, loader.schedule
    checkpoints = storage.join(work, "checkpoints")
    first, records = load_checkpoint(engine, checkpoints)
    total, logger = schedule.total_steps, get_logger(step.name)
    if dist.get_rank() == 0:
        figures = {"samples": len(schedule.samples.songs), "steps": total, "first_step": first}
        log(logger, "training", **figures, ranks=loader.world_size, batch=schedule.batch_size)
    engine.train()
    meter = StepMeter(engine, first, total, schedule.batch_size)
    batches = loader.batches(first)
    termination = Termination(_timeout(config))
    with Tracker(config, step, first) as tracker:
        for number in range(first, total):
            liveness.at(number, "data")
            with meter.waiting():
                batch = next(batches).to(engine.device)
            done = number + 1
            due = done % training.log_every_steps == 0 or done == total
            loss = _step(config, engine, batch, liveness, meter, due)
            ending = termination.anywhere()
            saving = ending or (done % training.checkpoint_every_steps == 0 and done < total)
            if due or saving:
                losses = mean_over_ranks({"loss": loss[0], **loss[1]})
                check_finite(done, losses, engine)
            if due and (record := meter.record(done, losses)):
                records.append(record)
                log(logger, "step", **record)
                tracker.log(record)
            if saving:
                liveness.at(done, "checkpoint")
                save_checkpoint(engine, checkpoints, done, records)
                if ending:
                    raise Interrupted(f"interrupted after step {done} of {total}, which is in a checkpoint")
    return records


def _step(config: PipelineConfig, engine: Any, batch: Batch, liveness: Liveness, meter: StepMeter, due: bool) -> Loss:
    cached, number = config.training.micro_batch_size is not None, batch.step
    loss = forward_backward(
        engine,
        batch,
        cached,
        lambda part: seed_micro_batch(config.training.seed, number, part),
        lambda phase, part: liveness.at(number, phase, part),
    )
    liveness.at(number, "update")
    if due:
        meter.before_update()
    engine.step()
    return loss


def seed_micro_batch(seed: int, step: int, part: int) -> None:
    """Dropout depends on seed, step, rank and micro-batch alone: a second pass or a resumed run repeats it."""
    state = np.random.SeedSequence([seed, step, dist.get_rank(), part]).generate_state(2, np.uint32)
    torch.manual_seed(int(state[0]) << 32 | int(state[1]))


class Termination:
    """Whether SIGTERM came to any rank; they must agree on the step after which they stop.

    From here on SIGTERM ends the process no more: a second one must not cut off the checkpoint, nor the first one
    the saving of the model.
    """

    def __init__(self, timeout: timedelta) -> None:
        self._here = False
        # On the host, so that a GPU is not waited for.
        self._group = dist.new_group(backend="gloo", timeout=timeout)
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, *_: object) -> None:
        self._here = True

    def anywhere(self) -> bool:
        """Ask all ranks; every rank calls it."""
        flag = torch.tensor(int(self._here))
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        return bool(flag)
