"""Starts the ranks of a training stage with DeepSpeed's launcher and judges how they ended."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig, fingerprint
from htcl.config_file import save_config
from htcl.errors import HTCLError
from htcl.logs import parse_line
from htcl.plan import Step
from htcl.processes import run_process

MARKER = "complete"
"""Rank 0 writes it last; it decides, not the exit code: a killed launcher exits with 0."""
CONFIG_FILE, RECIPE_FILE = "config.yaml", "recipe.json"
"""What the ranks find in the work folder."""


def run_stage(config: PipelineConfig, step: Step, on_line: Callable[[str], None]) -> None:
    """Train a stage in processes of its own and publish the model folder.

    A run that is started again goes on from the newest checkpoint of the same key.

    Args:
        config: the configuration.
        step: stage1 or stage2.
        on_line: gets every output line of every rank.

    Raises:
        HTCLError: when the ranks ended without finishing the model: the sentence of the rank that knows the cause.
    """
    work = _work_folder(config, step)
    cause = Cause()

    def read(line: str) -> None:
        cause.read(line)
        on_line(line)

    with ArtifactStore(config.workspace).create(step.recipe) as draft:
        save_config(config, work / CONFIG_FILE)
        # The ranks do not plan for themselves: what arrived in the inputs meanwhile belongs to the next run.
        (work / RECIPE_FILE).write_text(json.dumps(asdict(step.recipe)))
        port = _free_port()
        command = _command(config, draft.path, work, port)
        try:
            code, tail = run_process(command, read, env=_environment(config))
        finally:
            _free_shared_memory(port)
        if not (draft.path / MARKER).exists():
            raise HTCLError(cause.describe(step.name, code, tail))
        (draft.path / MARKER).unlink()
        draft.figures = {"processes": config.training.processes}
    shutil.rmtree(work, ignore_errors=True)  # checkpoints have served once the model is published


def _work_folder(config: PipelineConfig, step: Step) -> Path:
    """Make the folder for checkpoints and metrics while the stage runs.

    It lies in the workspace, or, where that is no local path, in the user's own folder for temporary files on this
    host; the ranks find out for themselves whether they all see it (see `check_shared_storage`).

    Raises:
        HTCLError: when that temporary folder is not the user's alone.
    """
    root = config.workspace
    base = storage.local_path(root) / "training" if storage.is_local(root) else _private_folder(root)
    work = base / f"{step.name}-{step.key}"
    work.mkdir(parents=True, exist_ok=True)
    return work


def _private_folder(workspace: str) -> Path:
    """A folder of this workspace below the user's own, which nobody else can read or have made for them."""
    own = Path(tempfile.gettempdir()) / f"htcl-training-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        own.mkdir(mode=0o700)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise HTCLError(f"{own} is open to other users; remove it, or set TMPDIR to a folder of your own")
    return own / fingerprint(workspace)


def _free_shared_memory(port: int) -> None:
    """DeepSpeed's ranks on CPU leave the buffers of their collectives, some 70 MB each, in memory for ever."""
    for buffer in Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_*_{port}_*"):
        buffer.unlink(missing_ok=True)


def _command(config: PipelineConfig, out: Path, work: Path, port: int) -> list[str]:
    # The launcher of one host, without the runner before it: that one dies of a SIGTERM and leaves the ranks behind.
    ranks = {"localhost": list(range(config.training.processes))}
    launcher = [sys.executable, "-u", "-m", "deepspeed.launcher.launch"]
    launcher += ["--world_info", base64.urlsafe_b64encode(json.dumps(ranks).encode()).decode()]
    launcher += ["--no_local_rank", "--log_level", "warning", "--master_port", str(port)]
    return [*launcher, "--module", "htcl.training.worker", "--out", str(out), "--work", str(work)]


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


_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*[a-z]\w*(?:: .*)?")
"""The last line of a traceback: `pyarrow.lib.ArrowInvalid: message`, `KeyboardInterrupt`."""


class Cause:
    """Finds out why the ranks ended from what they print; their tracebacks together outgrow a tail of the output."""

    def __init__(self) -> None:
        self._sentence = self._exception = self._raised = ""
        self._tracebacks = 0

    def read(self, line: str) -> None:
        """Take in the next output line of any rank."""
        logged = parse_line(line)
        if logged is None:
            self._read_traceback(line)
        elif logged.level == "error":
            # One rank's error soon becomes a lost connection on the others: the first is the cause.
            rank = f" (rank {logged.fields['rank']})" if "rank" in logged.fields else ""
            if name := logged.fields.get("exception"):
                self._exception = self._exception or f"{name}: {logged.message}".rstrip(": ") + rank
            else:
                self._sentence = self._sentence or logged.message

    def _read_traceback(self, line: str) -> None:
        line = re.sub(r"^\[rank\d+\]: ?", "", line)  # torch puts it before the lines of a traceback
        if line.startswith(_TRACEBACK):
            self._tracebacks += 1
        elif self._tracebacks and _RAISED.fullmatch(line.rstrip()):
            self._tracebacks -= 1
            self._raised = line.strip()

    def describe(self, step: str, code: int, tail: list[str]) -> str:
        """One sentence: what an HTCLError said, else the exception or the last line with the exit code."""
        if self._sentence:
            return self._sentence if self._sentence.startswith(f"{step}: ") else f"{step}: {self._sentence}"
        last = next((line.strip() for line in reversed(tail) if line.strip()), "no output")
        reason = self._exception or self._raised or last
        return f"{step}: training ended with exit code {code} before the model was written: {reason}"
