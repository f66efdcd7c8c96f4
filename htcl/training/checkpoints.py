"""Checkpoints that any number of ranks can resume: whole tensors by name, shared out over files.

A checkpoint is a folder `step-N`. Each rank writes one part with its share of the weights and of Adam's moments, and
rank 0 the manifest, last: what has none is half-written, what does not agree with it is damaged, and neither is used.
Nothing else needs keeping: the order of samples, learning rates and random states are functions of the step.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import (
    lazy_init_hp_params_optimizer_state,
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from htcl import storage
from htcl.logs import get_logger, log, log_error

TAG, MANIFEST = "step-", "manifest.json"
KEPT_CHECKPOINTS = 2
MOMENTS = ("exp_avg", "exp_avg_sq")
WEIGHT = "weight"

Records = list[dict[str, Any]]


def save_checkpoint(engine: Any, folder: str, step: int, records: Records) -> None:
    """Save the state after `step` steps and drop all but it and the one before; every rank calls it.

    Args:
        engine: DeepSpeed's, around the module that is trained.
        folder: folder or URI of the checkpoints.
        step: steps that are done.
        records: the training log so far, kept with them (rank 0).
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    target = storage.join(folder, f"{TAG}{step}")
    _link_moments(engine)
    tensors = {}
    for number, (name, parameter) in enumerate(_trained(engine)):
        for kind in (WEIGHT, *MOMENTS):
            value = _get(engine, parameter, kind)  # a collective of all ranks where ZeRO has split it
            if number % world == rank:
                tensors[f"{kind}/{name}"] = value.detach().cpu().contiguous()
    part = f"part-{rank:05d}-of-{world:05d}.safetensors"
    # Written to a file of this host first; in object storage it is then uploaded.
    with storage.open_atomic(storage.join(target, part)) as handle:
        save_file(tensors, handle.name)
        described = {"file": part, **_digest(Path(handle.name))}
    parts: list[Any] = [None] * world
    dist.all_gather_object(parts, described)
    if rank == 0:
        manifest = {"step": step, "parts": parts, "records": records}
        storage.write_bytes(storage.join(target, MANIFEST), json.dumps(manifest).encode())
        prune_checkpoints(folder, step)
    dist.barrier()


def load_checkpoint(engine: Any, folder: str) -> tuple[int, Records]:
    """Load the newest whole checkpoint, and where there is one delete those that are broken; every rank calls it.

    Returns:
        Steps that are done and the training log of them; (0, []) where there is none.
    """
    chosen: list[Any] = [None]
    if dist.get_rank() == 0 and (found := find_checkpoint(folder)):
        prune_checkpoints(folder, int(found["step"]))
        chosen = [found]
    dist.broadcast_object_list(chosen, src=0)
    manifest = chosen[0]
    if manifest is None:
        return 0, []
    step = int(manifest["step"])
    trained = dict(_trained(engine))
    _make_moments(engine, step)
    for part in manifest["parts"]:
        with (
            storage.local_copy(storage.join(folder, f"{TAG}{step}", part["file"])) as path,
            safe_open(path, framework="pt") as tensors,
        ):
            for key in tensors.keys():  # noqa: SIM118  (safetensors has no other iterator)
                kind, _, name = key.partition("/")
                _set(engine, trained[name], kind, tensors.get_tensor(key))
    _set_learning_rates(engine, step)
    return step, manifest["records"]


def find_checkpoint(folder: str) -> dict[str, Any] | None:
    """Manifest of the newest checkpoint that is whole; what is wrong with newer ones is logged."""
    logger = get_logger("training")
    for step, uri in sorted(_checkpoints(folder).items(), reverse=True):
        damage = None
        try:
            manifest: dict[str, Any] = json.loads(storage.read_bytes(storage.join(uri, MANIFEST)))
            damage = next((found for part in manifest["parts"] if (found := _damage(uri, part))), None)
        except FileNotFoundError:
            damage = "it was not finished"
        except (ValueError, KeyError, TypeError):
            damage = f"{MANIFEST} is damaged"
        if damage is None:
            return manifest
        log_error(logger, f"checkpoint of step {step} is not used: {damage}; the one before is looked at", folder=uri)
    log(logger, "no checkpoint to go on from", folder=folder)
    return None


def prune_checkpoints(folder: str, step: int) -> None:
    """Keep the checkpoints of `step` and of the finished one before; others a crash left, or they are old."""
    found = _checkpoints(folder)
    finished = [n for n in found if n <= step and storage.exists(storage.join(found[n], MANIFEST))]
    kept = sorted(finished)[-KEPT_CHECKPOINTS:]
    for number in found.keys() - set(kept):
        storage.remove_folder(found[number])


def _checkpoints(folder: str) -> dict[int, str]:
    """Folders by step, whole or not."""
    names = [name for name in storage.list_folder(folder) if name.startswith(TAG)]
    return {int(name.removeprefix(TAG)): storage.join(folder, name) for name in names}


def _damage(uri: str, part: dict[str, Any]) -> str | None:
    try:
        with storage.local_copy(storage.join(uri, part["file"])) as path:
            found = _digest(path)
    except FileNotFoundError:
        return f"{part['file']} is missing"
    return None if found == {name: part[name] for name in found} else f"{part['file']} is damaged"


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        return {"size": path.stat().st_size, "blake2b": hashlib.file_digest(handle, "blake2b").hexdigest()}


def _trained(engine: Any) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in engine.module.named_parameters() if p.requires_grad]


def _get(engine: Any, parameter: nn.Parameter, kind: str) -> Tensor:
    """A whole tensor: the weight or one of its moments."""
    if engine.zero_optimization():
        read = safe_get_full_fp32_param(parameter) if kind == WEIGHT else safe_get_full_optimizer_state(parameter, kind)
        assert read is not None
        return read  # type: ignore[no-any-return]
    return parameter.data if kind == WEIGHT else engine.optimizer.state[parameter][kind]


def _set(engine: Any, parameter: nn.Parameter, kind: str, value: Tensor) -> None:
    value = value.to(parameter.device)
    if kind == WEIGHT:
        parameter.data.copy_(value)
    if not engine.zero_optimization():
        if kind != WEIGHT:
            engine.optimizer.state[parameter][kind].copy_(value)
    elif kind == WEIGHT:
        safe_set_full_fp32_param(parameter, value)
    else:
        safe_set_full_optimizer_state(parameter, value, kind)


def _make_moments(engine: Any, step: int) -> None:
    """Adam makes its state at the first step; a resumed run needs it before."""
    zero = engine.zero_optimization()
    adam = engine.optimizer.optimizer if zero else engine.optimizer
    # ZeRO hands Adam one flat tensor of each group: its rank's share.
    held = engine.optimizer.single_partition_of_fp32_groups if zero else [p for _, p in _trained(engine)]
    for tensor in held:
        adam.state[tensor] = {
            "step": torch.tensor(float(step), dtype=torch.float32),
            **{moment: torch.zeros_like(tensor) for moment in MOMENTS},
        }
    _link_moments(engine)


def _link_moments(engine: Any) -> None:
    """Tell ZeRO's weights where their moments lie; by itself it forgets all groups of parameters but the first."""
    if engine.zero_optimization():
        zero = engine.optimizer
        for group, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
            lazy_init_hp_params_optimizer_state(group, flat, zero.optimizer.state)


def _set_learning_rates(engine: Any, step: int) -> None:
    scheduler = engine.lr_scheduler
    rates = [base * factor(step) for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
    scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": step, "_last_lr": rates})
    for group, rate in zip(engine.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
