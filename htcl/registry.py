"""MLflow's model registry follows the champion, where MLflow is configured; the log of published sets is the truth."""

from __future__ import annotations

import os
from typing import Any

from htcl.artifacts import ArtifactStore
from htcl.champion import Champion
from htcl.config import PipelineConfig
from htcl.logs import get_logger, log, log_warning
from htcl.mlflow_client import SERVER_VARIABLE, open_client

ALIAS = "champion"


def follow_champion(config: PipelineConfig, champion: Champion) -> None:
    """Let the alias `champion` name the version of the champion's model; a registry that fails is logged and left."""
    uri = os.environ.get(SERVER_VARIABLE)
    if not uri:
        return
    logger = get_logger("registry")
    try:
        version = _register(open_client(uri), config, champion)
    except Exception as error:
        log_warning(logger, f"MLflow does not follow the champion: {type(error).__name__}: {error}")
        return
    log(logger, "alias moved", alias=ALIAS, name=config.name, version=version, model=champion.stage2)


def _register(client: Any, config: PipelineConfig, champion: Champion) -> str:
    """Move the alias, to a version that is made where there is none of this model; its number."""
    if not client.search_registered_models(f"name = '{config.name}'"):
        client.create_registered_model(config.name, description="Song embeddings of htcl, stage 2")
    versions = client.search_model_versions(f"name = '{config.name}'")
    found = next((version for version in versions if version.tags.get("key") == champion.stage2), None)
    if found is None:
        source = ArtifactStore(config.workspace).content("stage2", champion.stage2)
        run = _run_of(client, config, champion.stage2)
        found = client.create_model_version(
            config.name, source if "://" in source else f"file://{source}", run, tags={"key": champion.stage2}
        )
    client.set_registered_model_alias(config.name, ALIAS, found.version)
    return str(found.version)


def _run_of(client: Any, config: PipelineConfig, key: str) -> str | None:
    """The MLflow run that trained a model."""
    experiment = client.get_experiment_by_name(config.name)
    runs = client.search_runs([experiment.experiment_id], f"tags.key = '{key}'") if experiment else []
    return str(runs[0].info.run_id) if runs else None
