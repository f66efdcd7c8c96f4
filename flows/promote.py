"""Publish a model by hand, whatever the gate says of it."""

from __future__ import annotations

from prefect import flow
from prefect.states import Completed, State

from flows.graph import SERVED, make, publish
from flows.run import working
from flows.script import run_as_script
from flows.settings import Settings
from flows.steps import failed
from htcl.champion import read_champion
from htcl.errors import HTCLError


@flow(name="htcl")
def promote(config: str, model: str, settings: Settings = Settings()) -> State:  # noqa: B008  (it never changes)
    """Embed today's catalog with a model and publish it; a set that is not whole or not sound is refused all the same.

    Args:
        config: Path of the pipeline configuration (YAML) on the worker.
        model: Stage-2 key of the model.
        settings: Settings laid over it for this run.
    """
    try:
        with working(config, settings, "promote") as run:
            base = read_champion(run.config.workspace)
            judged = ("catalog", "shards", "pairs", "gate_set", "evaluation")
            keys = {"stage2": model, **make(run, judged, model, fine_tune=False)}
            keys |= make(run, SERVED, model, fine_tune=False)  # after the gate set, whose songs it need not embed
            return Completed(message=publish(run, keys, base, "promoted by hand"), data=keys)
    except HTCLError as error:
        return failed(error)


if __name__ == "__main__":
    run_as_script(promote)
