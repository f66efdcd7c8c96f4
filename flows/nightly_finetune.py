"""Every night: new songs with the champion first, then a fine-tune that has to pass the gate."""

from __future__ import annotations

from prefect import flow
from prefect.states import Failed, State

from flows.graph import evaluate_champion, make, publish_set, run_as_script
from htcl.champion import require_champion
from htcl.config_file import load_config
from htcl.errors import HTCLError
from htcl.plan import raw_inputs


@flow(name="htcl")
def nightly_finetune(config: str, overrides: list[str] | None = None) -> dict[str, str] | State:
    """Embed and publish new songs, then fine-tune stage 2 on the newest log and gate it.

    Args:
        config: path of the pipeline configuration (YAML).
        overrides: settings laid over it, such as "nightly.epochs=1".

    Returns:
        Artifact keys of the candidate by step.
    """
    try:
        loaded = load_config(config, overrides)
        inputs = raw_inputs(loaded)
        champion = require_champion(loaded.workspace)
        keys = {"stage2": champion.stage2, "evaluation": champion.evaluation}
        for name in ("catalog", "shards", "embeddings", "index"):
            keys[name] = make(loaded, inputs, name, champion.stage2, fine_tune=False)
        publish_set(loaded, keys)
        for name in ("pairs", "stage2", "embeddings", "index", "evaluation"):
            keys[name] = make(loaded, inputs, name, champion.stage2)
        publish_set(loaded, keys, evaluate_champion(loaded, inputs, keys["stage2"]))
        return {**keys, "report": make(loaded, inputs, "report", champion.stage2)}
    except HTCLError as error:
        return Failed(message=str(error))


if __name__ == "__main__":
    run_as_script(nightly_finetune)
