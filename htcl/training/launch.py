"""Starts the ranks of a training stage with the DeepSpeed launcher and judges how they ended."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.config_file import save_config
from htcl.errors import HTCLError
from htcl.plan import Step
from htcl.processes import run_process

MARKER = "complete"
"""Rank 0 writes it last; it decides, not the exit code: a killed launcher exits with 0."""


def run_stage(config: PipelineConfig, step: Step, on_line: Callable[[str], None]) -> None:
    """Train a stage in processes of its own and publish the model folder.

    A run that is started again goes on from the newest checkpoint of the same key.

    Args:
        config: the configuration.
        step: stage1 or stage2.
        on_line: gets every output line of every rank.

    Raises:
        HTCLError: when the ranks ended without finishing the model.
    """
    work = _work_folder(config, step)
    work.mkdir(parents=True, exist_ok=True)
    with ArtifactStore(config.workspace).create(step.recipe) as draft:
        path = save_config(config, work / "config.yaml")
        command = _command(config, step, path, draft.path, work)
        code, tail = run_process(command, on_line, env=_environment(config))
        if not (draft.path / MARKER).exists():
            raise HTCLError(
                f"{step.name}: training ended with exit code {code} before the model was written: {_last_error(tail)}"
            )
        (draft.path / MARKER).unlink()
        draft.figures = {"processes": config.training.processes}
    _clean(work)


def _work_folder(config: PipelineConfig, step: Step) -> Path:
    """Folder for checkpoints and metrics while the stage runs; local, and shared by all hosts."""
    root = config.workspace
    base = storage.local_path(root) if storage.is_local(root) else Path(tempfile.gettempdir()) / "htcl-training"
    return base / "training" / f"{step.name}-{step.key}"


def _command(config: PipelineConfig, step: Step, config_path: Path, out: Path, work: Path) -> list[str]:
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner"]
    launcher += ["--no_local_rank", "--log_level", "warning", "--num_gpus", str(config.training.processes)]
    launcher += ["--master_port", str(_free_port())]
    arguments = ["--config", str(config_path), "--stage", step.name, "--out", str(out), "--work", str(work)]
    if champion := step.recipe.inputs.get("champion"):
        arguments += ["--champion", champion]
    return [*launcher, "--module", "htcl.training.worker", *arguments]


def _environment(config: PipelineConfig) -> dict[str, str]:
    import torch

    threads = max((os.cpu_count() or 1) // config.training.processes, 1)
    # ninja and deepspeed are looked up on PATH by the ranks.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env = {"OMP_NUM_THREADS": str(threads), "PATH": path, "TOKENIZERS_PARALLELISM": "false"}
    return env if torch.cuda.is_available() else {**env, "DS_ACCELERATOR": "cpu"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_error(tail: list[str]) -> str:
    """The line that most likely names the cause: ours first, else the last exception."""
    ours = [line for line in tail if "level=error" in line]
    raised = [line for line in tail if "Error" in line and not line.startswith((" ", "\t"))]
    for found in (ours, raised, tail):
        if found:
            return found[-1].strip()
    return "no output"


def _clean(work: Path) -> None:
    """Checkpoints have served once the model is published."""
    import shutil

    shutil.rmtree(work, ignore_errors=True)
