"""Gate and switch: may the candidate become what readers see?"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.champion import Champion, ancestors, read_champion, switch_champion
from htcl.config import PipelineConfig
from htcl.evaluation.gate import GateDecision, decide
from htcl.evaluation.results import PER_QUERY_FILE
from htcl.logs import get_logger, log
from htcl.search.index import read_embeddings

GATE_SAMPLE = 20_000
"""Songs that the collapse check looks at."""


def gate_and_publish(config: PipelineConfig, keys: dict[str, str], against: str | None = None) -> bool:
    """Hold the candidate against the champion and switch if it may.

    A candidate with the champion's own model (new songs, new index) is switched to without a comparison. A model
    that the champion was fine-tuned from is no candidate: a full run that found nothing to do must not undo a
    nightly fine-tune.

    Args:
        config: the configuration.
        keys: artifact keys by step: catalog, shards, stage2, embeddings, index, evaluation.
        against: key of the champion's evaluation on the same songs and pairs; by default the one it was published
            with.

    Returns:
        Whether the candidate is what readers see now.
    """
    champion = read_champion(config.workspace)
    logger = get_logger("publish")
    if champion and all(getattr(champion, name) == key for name, key in keys.items()):
        log(logger, "already published", model=keys["stage2"])
        return True
    if champion and keys["stage2"] in ancestors(ArtifactStore(config.workspace), champion.stage2):
        log(logger, "kept champion: it was fine-tuned from this model", champion=champion.stage2, model=keys["stage2"])
        return False
    if champion is None or champion.stage2 != keys["stage2"]:
        decision = _decide(config, keys, against or (champion.evaluation if champion else None))
        _record(config, keys["stage2"], decision, champion)
        for reason in decision.reasons:
            log(logger, reason)
        if not decision.promote:
            log(logger, "kept champion", champion=champion.stage2 if champion else "none")
            return False
    switch_champion(config.workspace, keys)
    log(logger, "published", model=keys["stage2"], index=keys["index"])
    return True


def read_decision(workspace: str, model_id: str) -> dict[str, Any] | None:
    """What the gate said of a model, or None where it was not asked."""
    uri = _decision_uri(workspace, model_id)
    return dict(json.loads(storage.read_bytes(uri))) if storage.exists(uri) else None


def _decide(config: PipelineConfig, keys: dict[str, str], against: str | None) -> GateDecision:
    store = ArtifactStore(config.workspace)
    version = store.manifest("embeddings", keys["embeddings"])["tables"]["embeddings"]
    _, vectors, _ = read_embeddings(config.workspace, keys["stage2"], version)
    before = _per_query(store, against) if against else None
    candidate = _per_query(store, keys["evaluation"])
    return decide(candidate, before, vectors[:GATE_SAMPLE], config.gate, config.evaluation)


def _per_query(store: ArtifactStore, evaluation: str) -> pa.Table:
    table = pq.read_table(store.fetch("evaluation", evaluation) / PER_QUERY_FILE)
    return table.filter(pc.field("system") == "stage2")


def _record(config: PipelineConfig, model_id: str, decision: GateDecision, champion: Champion | None) -> None:
    comparisons = [
        {
            "guard": found.guard.name,
            "candidate": found.candidate,
            "champion": found.champion,
            "low": found.difference.low,
            "high": found.difference.high,
            "n": found.difference.n,
        }
        for found in decision.comparisons
    ]
    record = {
        "promote": decision.promote,
        "reasons": decision.reasons,
        "comparisons": comparisons,
        "champion": champion.stage2 if champion else None,
    }
    storage.write_bytes(_decision_uri(config.workspace, model_id), json.dumps(record, indent=1).encode())


def _decision_uri(workspace: str, model_id: str) -> str:
    return storage.join(workspace, "published", "decisions", f"{model_id}.json")
