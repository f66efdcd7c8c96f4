"""The training log for people: TensorBoard files and MLflow runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch.distributed as dist

from htcl import storage
from htcl.config import PipelineConfig
from htcl.logs import get_logger, log, log_error
from htcl.mlflow_client import SERVER_VARIABLE, open_client
from htcl.plan import Step

_LONGEST_PARAMETER = 500

Writer = Callable[[int, dict[str, float]], None]


class Tracker:
    """Writes the figures of rank 0 to TensorBoard and MLflow for as long as the block runs.

    They are a convenience: one that fails is logged and left out, and training goes on.

    Args:
        config: says where; by default below a local workspace.
        step: the run that is tracked; a resumed one goes on in the same MLflow run.
        first: steps done before; what a broken run showed beyond them is hidden.
    """

    def __init__(self, config: PipelineConfig, step: Step, first: int) -> None:
        self._config, self._step, self._first = config, step, first
        self._writers: dict[str, Writer] = {}
        self._closers: dict[str, Callable[[bool], None]] = {}

    def __enter__(self) -> Tracker:
        if dist.get_rank() == 0:
            folder = self._folder()
            if folder:
                self._guarded("TensorBoard", lambda: self._open_tensorboard(storage.join(folder, "tensorboard")))
            server = os.environ.get(SERVER_VARIABLE) or (folder and storage.join(f"file:{folder}", "mlflow"))
            if server:
                self._guarded("MLflow", lambda: self._open_mlflow(server))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, close in self._closers.items():
            self._guarded(name, lambda close=close: close(kind is None))  # type: ignore[misc]

    def log(self, record: Mapping[str, Any]) -> None:
        """Write the figures of a step."""
        figures = {name: float(value) for name, value in record.items() if name not in ("global_step", "total")}
        for name, write in list(self._writers.items()):
            self._guarded(name, lambda write=write: write(record["global_step"], figures))  # type: ignore[misc]

    def _folder(self) -> str:
        chosen, workspace = self._config.training.tracking_folder, self._config.workspace
        if chosen or storage.is_local(workspace):
            return str(storage.local_path(chosen or storage.join(workspace, "tracking")))
        log(get_logger(self._step.name), "no files for TensorBoard: set training.tracking_folder to a local folder")
        return ""

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self._writers.pop(name, None)
            log_error(get_logger(self._step.name), f"{name} is left out from here on: {type(error).__name__}: {error}")

    def _open_tensorboard(self, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(storage.join(folder, f"{self._step.name}-{self._step.key}"), purge_step=self._first + 1)

        def write(step: int, figures: dict[str, float]) -> None:
            for figure, value in figures.items():
                writer.add_scalar(figure, value, step)

        self._writers["TensorBoard"] = write
        self._closers["TensorBoard"] = lambda finished: writer.close()

    def _open_mlflow(self, uri: str) -> None:
        client = open_client(uri)
        from mlflow.entities import Metric

        run_id = _mlflow_run(client, self._config, self._step)

        def write(step: int, figures: dict[str, float]) -> None:
            now = int(time.time() * 1000)
            client.log_batch(run_id, metrics=[Metric(name, value, now, step) for name, value in figures.items()])

        self._writers["MLflow"] = write
        self._closers["MLflow"] = lambda finished: client.set_terminated(run_id, "FINISHED" if finished else "FAILED")


def _mlflow_run(client: Any, config: PipelineConfig, step: Step) -> str:
    """The run of this artifact key: a new one, or that of a broken run, which goes on."""
    from mlflow.entities import Param

    experiment = client.get_experiment_by_name(config.name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(config.name)
    if found := client.search_runs([experiment_id], f"tags.key = '{step.key}'"):
        client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    run = client.create_run(experiment_id, run_name=f"{step.name}-{step.key}", tags={"key": step.key})
    settings = _flat({**step.recipe.section, "inputs": step.recipe.inputs})
    parameters = [Param(name, text[:_LONGEST_PARAMETER]) for name, text in settings.items()]
    client.log_batch(run.info.run_id, params=parameters)
    return str(run.info.run_id)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `section.key` -> text."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found
