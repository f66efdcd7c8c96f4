"""One rank of a training stage, as an agent or a scheduler starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import asdict

from htcl.artifacts import Recipe
from htcl.config import PipelineConfig
from htcl.config_file import validate_config
from htcl.errors import HTCLError, Interrupted, sentence_of
from htcl.lease import workspace_lease
from htcl.logs import get_logger, log, log_error, log_sentence, quiet_libraries, setup_logging
from htcl.plan import Step, plan
from htcl.training.agent import EXIT_INTERRUPTED

DEFAULT_PORT = "29500"
_SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


def main() -> None:
    """Train as the rank of an agent, which sends configuration and recipe: ranks do not plan for themselves."""
    setup_logging()
    work = json.loads(sys.stdin.readline())

    def train_it() -> None:
        recipe = Recipe(**work["recipe"])
        step = Step(recipe.kind, recipe, False, "")
        _train(validate_config(work["config"], "the agent's job"), lambda: step, placed=False)

    sys.exit(_guarded(train_it))


def train_as_rank(config: PipelineConfig, stage: str) -> int:
    """Train as a rank that a scheduler has placed; rank 0 plans for all, and holds the lease of the workspace.

    Who a rank is stands in RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; Slurm's own variables stand in
    for the first three.

    Returns:
        The exit code: 0, 1 after an error, EXIT_INTERRUPTED after SIGTERM, when the scheduler should start it again.

    Raises:
        HTCLError: when a variable is missing.
    """
    read_rank(os.environ)

    def plan_for_all() -> Step | None:
        """The step as rank 0 plans it; None where it is published."""
        import torch.distributed as dist

        shared: list[Recipe | None] = [None]
        if dist.get_rank() == 0:
            step = plan(config)[stage]
            shared = [None if step.published else step.recipe]
        dist.broadcast_object_list(shared, src=0)
        if shared[0] is None:
            log(get_logger(stage), "skipped, nothing changed")
            return None
        return Step(stage, shared[0], False, "")

    def train_it() -> None:
        with contextlib.ExitStack() as stack:
            if os.environ["RANK"] == "0":  # for all: the others wait to meet it
                stack.enter_context(
                    workspace_lease(config.workspace, f"train {stage}", here=False, on_loss=lambda: os._exit(1))
                )
            _train(config, plan_for_all, placed=True)

    return _guarded(train_it)


def read_rank(env: MutableMapping[str, str]) -> None:
    """Fill in what the scheduler calls otherwise.

    Raises:
        HTCLError: naming the variable that is missing.
    """
    for name, other in _SLURM.items():
        if name not in env and other in env:
            env[name] = env[other]
    env.setdefault("LOCAL_RANK", "0")
    env.setdefault("MASTER_PORT", DEFAULT_PORT)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        if name not in env:
            raise HTCLError(
                f"{name} is not set: `htcl train` runs as one rank that a scheduler placed (Slurm: export MASTER_ADDR "
                "as the first host of the job); `htcl run` starts ranks itself"
            )


def _guarded(train_it: Callable[[], None]) -> int:
    """Run, and log an error as one line with rank and host: only one rank may know the cause, not always rank 0.

    What its reader can mend ends in its sentence, anything else also in a traceback.
    """
    logger = get_logger("training")
    who = {"rank": os.environ.get("RANK", "0"), "host": socket.gethostname()}
    try:
        train_it()
    except Interrupted as ended:
        # Python takes its handlers away as it ends, and the agent may still ask a second time.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        log(logger, str(ended), **who)
        return EXIT_INTERRUPTED
    except Exception as error:
        if told := sentence_of(error):
            log_sentence(logger, told, **who, ends=True)
            return 1
        log_error(logger, str(error), **who, exception=type(error).__name__, ends=True)
        raise
    return 0


def _train(config: PipelineConfig, find_step: Callable[[], Step | None], placed: bool) -> None:
    """Meet the other ranks, and train what `find_step` then names.

    Args:
        config: the configuration.
        find_step: called once the ranks have met; None: there is nothing to train.
        placed: by a scheduler, which reads no pulses.
    """
    _choose_accelerator(placed)
    quiet_libraries()
    with _hidden("mlflow"):  # DeepSpeed's autotuner, which nothing here uses, would import it: seconds for each rank
        import deepspeed  # noqa: F401
    from htcl.training.liveness import Liveness
    from htcl.training.loop import join_ranks, train  # bring torch and DeepSpeed, whose errors are to be logged too

    liveness = Liveness(int(os.environ["RANK"]), config.training.stall_seconds, pulses=not placed)
    with liveness.watched():
        join_ranks(config)
        if step := find_step():
            train(config, step, liveness)


@contextlib.contextmanager
def _hidden(package: str) -> Iterator[None]:
    """As if a package that is not imported yet were not installed."""
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


def _choose_accelerator(placed: bool) -> None:
    """See that this rank has a GPU of its own, or that DeepSpeed uses the CPU.

    Args:
        placed: by a scheduler, which may show each rank its own GPU alone.

    Raises:
        HTCLError: when the host has more ranks than GPUs.
    """
    import torch

    if not torch.cuda.is_available():
        # DeepSpeed looks at what is installed; GPU libraries beside a CPU build mislead it.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        return
    count, local = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    if placed and count == 1:
        os.environ["LOCAL_RANK"] = "0"
    elif local >= count:
        raise HTCLError(
            f"host {socket.gethostname()} has {count} GPUs for {local + 1} ranks or more; "
            "start one rank a GPU (training.processes, slots of the hostfile), or set DS_ACCELERATOR=cpu"
        )


def describe(config: PipelineConfig, step: Step) -> dict[str, object]:
    """What `main` reads, as JSON values."""
    return {"config": config.model_dump(mode="json"), "recipe": asdict(step.recipe)}


if __name__ == "__main__":
    main()
