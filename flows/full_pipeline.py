"""The whole way: logs, catalog and audio to a published, searchable set of song embeddings."""

from __future__ import annotations

from prefect import flow
from prefect.states import Failed, State

from flows.graph import evaluate_champion, make, publish_set, run_as_script
from htcl.config_file import load_config
from htcl.errors import HTCLError
from htcl.plan import raw_inputs


@flow(name="htcl")
def full_pipeline(config: str, overrides: list[str] | None = None) -> dict[str, str] | State:
    """Run every step whose inputs or settings changed.

    Args:
        config: path of the pipeline configuration (YAML).
        overrides: settings laid over it, such as "pairs.top_k=20".

    Returns:
        Artifact keys by step.
    """
    try:
        loaded = load_config(config, overrides)
        inputs = raw_inputs(loaded)
        keys: dict[str, str] = {}
        for name in ("catalog", "shards", "pairs", "stage1", "stage2", "embeddings", "index", "evaluation"):
            keys[name] = make(loaded, inputs, name)
        publish_set(loaded, keys, evaluate_champion(loaded, inputs, keys["stage2"]))
        return {**keys, "report": make(loaded, inputs, "report")}
    except HTCLError as error:
        return Failed(message=str(error))


if __name__ == "__main__":
    run_as_script(full_pipeline)
