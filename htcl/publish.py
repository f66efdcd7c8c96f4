"""Gate and switch: may the candidate become what readers see?"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.champion import SET, Champion, ancestors, switch_champion
from htcl.config import PipelineConfig
from htcl.errors import HTCLError
from htcl.evaluation.drift import Drift, measure_drift
from htcl.evaluation.gate import GateDecision, decide, defects
from htcl.evaluation.gate_set import read_gate_songs
from htcl.evaluation.results import LOST, PER_QUERY_FILE
from htcl.logs import get_logger, log, log_warning
from htcl.registry import follow_champion
from htcl.search.index import Float32, indexed_tracks, read_embeddings
from htcl.shards.index import read_index

Keys = dict[str, str]
"""Artifact keys by kind."""

UNCHANGED = "nothing new"
"""Begins the outcome of a run after which readers see what they saw before, though nothing was refused."""
SAMPLE = 20_000
"""Songs of the whole catalog that the check for collapse looks at."""
SHOWN_SONGS = 3


@dataclass(frozen=True)
class Judgement:
    """What the gate said of a model, as it is written down.

    Attributes:
        model: its stage-2 key.
        run: name of the flow run that asked.
        promote: whether it may become champion.
        reasons: why, in sentences.
        comparisons: guard, candidate, champion, low, high, n of each comparison with the champion.
        drift: from the champion, where the two can be compared.
        champion: the stage-2 key that it was held against, if any.
        keys: of what it was judged on.
    """

    model: str
    run: str
    promote: bool
    reasons: list[str]
    comparisons: list[dict[str, Any]]
    drift: dict[str, float] | None
    champion: str | None
    keys: Keys


@dataclass(frozen=True)
class Switch:
    """What came of publishing a set.

    Attributes:
        switched: whether readers see another set now; False also where they saw this one before.
        faults: what speaks against it.
    """

    switched: bool
    faults: list[str]


def obstacle(workspace: str, model: str, champion: Champion | None) -> str | None:
    """Why a model is no candidate at all, whatever it is worth; None where it is one.

    A model that the champion was fine-tuned from is none: a full run that found nothing to do must not undo a nightly
    fine-tune. One that was rolled back from is none either, nor is what was fine-tuned from it.
    """
    if champion is None:
        return None
    store = ArtifactStore(workspace)
    if model in ancestors(store, champion.stage2):
        return f"it was fine-tuned from {model}"
    if model in champion.withdrawn:
        return f"{model} was rolled back from; `htcl promote {model}` publishes it again"
    for parent in ancestors(store, model):
        if parent == champion.stage2:
            break  # somebody promoted it, whatever it comes from
        if parent in champion.withdrawn:
            return f"{model} comes from {parent}, which was rolled back from; `htcl promote {model}` publishes it"
    return None


def judge(config: PipelineConfig, keys: Keys, against: str | None, run: str) -> Judgement:
    """Hold a candidate against the champion, and write down what came of it.

    Args:
        config: the configuration.
        keys: of the candidate: catalog, shards, stage2, gate_set, evaluation.
        against: evaluation of the champion, on the same songs and pairs where that could be made; None where there is
            no champion.
        run: name of the flow run.
    """
    store = ArtifactStore(config.workspace)
    songs = _gate_songs(store, keys["evaluation"])
    before = _per_query(store, against) if against else None
    sound = not defects(songs.vectors, config.gate)
    drift = _drift(_gate_songs(store, against), songs) if against and sound else None
    lost = store.manifest("evaluation", keys["evaluation"])["figures"].get(LOST, 0)
    decision = decide(
        _per_query(store, keys["evaluation"]), before, songs.vectors, config.gate, config.evaluation, drift, lost
    )
    champion = _judged_model(store, against) if against else None
    judgement = _written_down(keys, champion, run, decision, drift)
    uri = _uri(config.workspace, judgement.model)
    storage.write_bytes(uri, json.dumps(asdict(judgement), indent=1).encode())
    logger = get_logger("gate")
    for reason in decision.reasons:
        log(logger, reason)
    return judgement


def publish_set(config: PipelineConfig, keys: Keys, champion: Champion | None, why: str) -> Switch:
    """Switch readers to a set, unless it is what they see, lacks songs or is not sound.

    Args:
        config: the configuration.
        keys: all of `SET`, more do no harm.
        champion: that this was decided upon.
        why: what is written down as the reason.

    Raises:
        OvertakenError: when somebody else switched meanwhile.
    """
    logger = get_logger("publish")
    chosen = {kind: keys[kind] for kind in SET}
    if champion and champion.keys == chosen:
        log(logger, "already published", model=chosen["stage2"])
        return Switch(False, [])
    if against := faults(config, chosen):
        for reason in against:
            log_warning(logger, reason)
        return Switch(False, against)
    published = switch_champion(config.workspace, chosen, why, champion)
    log(logger, "published", model=published.stage2, index=published.index, number=published.number)
    follow_champion(config, published)
    return Switch(True, [])


def faults(config: PipelineConfig, keys: Keys) -> list[str]:
    """What is wrong with a set: songs that the index lacks or has too many, embeddings that are no good."""
    store = ArtifactStore(config.workspace)
    manifest = store.manifest("embeddings", keys["embeddings"])
    for kind in ("catalog", "shards", "stage2"):
        if manifest["inputs"][kind] != keys[kind]:
            return [f"The embeddings {keys['embeddings']} are of another {kind}: {manifest['inputs'][kind]}."]
    if store.manifest("index", keys["index"])["inputs"]["embeddings"] != keys["embeddings"]:
        return [f"The index {keys['index']} is of other embeddings than {keys['embeddings']}."]
    wanted = read_index(store.fetch("shards", keys["shards"]))["track_id"].combine_chunks()
    found = indexed_tracks(store.fetch("index", keys["index"]))
    reasons = []
    for name, some, others in (("lacks", wanted, found), ("has, but the shards do not,", found, wanted)):
        rest = some.filter(pc.invert(pc.is_in(some, value_set=others)))
        if len(rest):
            shown = ", ".join(rest[:SHOWN_SONGS].to_pylist())
            reasons.append(f"The index {name} {len(rest)} of {len(wanted)} songs, such as {shown}.")
    _, vectors, _ = read_embeddings(config.workspace, keys["stage2"], manifest["tables"]["embeddings"])
    step = max(1, len(vectors) // SAMPLE)
    return reasons + defects(vectors[::step], config.gate)


def read_judgement(workspace: str, model_id: str) -> Judgement | None:
    """What the gate said of a model, or None where it was not asked."""
    uri = _uri(workspace, model_id)
    return Judgement(**json.loads(storage.read_bytes(uri))) if storage.exists(uri) else None


def judgements(workspace: str) -> list[Judgement]:
    """All that the gate said."""
    names = storage.list_folder(storage.join(workspace, "published", "judgements"))
    found = [read_judgement(workspace, name.removesuffix(".json")) for name in names if name.endswith(".json")]
    return [judgement for judgement in found if judgement]


@dataclass(frozen=True)
class _Songs:
    """A gate set in the space of its stage 2: track ids [n], sorted, and unit embeddings [n, d]."""

    tracks: pa.Array
    vectors: Float32


def find_model(workspace: str, run_or_model: str) -> str:
    """The stage-2 key that somebody means.

    Args:
        workspace: of the models.
        run_or_model: name of the flow run that judged it, or the beginning of its key.

    Raises:
        HTCLError: when there is none, or more than one.
    """
    known = [str(manifest["key"]) for manifest in ArtifactStore(workspace).manifests("stage2")]
    of_run = {said.model for said in judgements(workspace) if said.run == run_or_model}
    found = sorted(of_run or {key for key in known if key.startswith(run_or_model)})
    if not found:
        raise HTCLError(f"no model and no run is called {run_or_model!r}; `htcl models CONFIG` lists them")
    if len(found) > 1:
        raise HTCLError(f"{run_or_model!r} may be {', '.join(found)}; give more letters")
    return found[0]


def _gate_songs(store: ArtifactStore, evaluation: str) -> _Songs:
    """The songs of an evaluation."""
    manifest = _gate_set(store, evaluation)
    tracks, version = read_gate_songs(store, manifest["key"]), manifest["tables"]["embeddings"]
    return _Songs(tracks, read_embeddings(store.workspace, manifest["inputs"]["stage2"], version, tracks)[1])


def _drift(before: _Songs, after: _Songs) -> Drift | None:
    """From one model to another, over the songs that both were judged on."""
    rows = pc.index_in(after.tracks, value_set=before.tracks)
    shared = np.asarray(rows.is_valid())
    if shared.sum() < 2:
        return None
    return measure_drift(before.vectors[rows.drop_null().to_numpy()], after.vectors[shared])


def _judged_model(store: ArtifactStore, evaluation: str) -> str:
    return str(_gate_set(store, evaluation)["inputs"]["stage2"])


def _gate_set(store: ArtifactStore, evaluation: str) -> dict[str, Any]:
    return store.manifest("gate_set", store.manifest("evaluation", evaluation)["inputs"]["gate_set"])


def _per_query(store: ArtifactStore, evaluation: str) -> pa.Table:
    table = pq.read_table(store.fetch("evaluation", evaluation) / PER_QUERY_FILE)
    return table.filter(pc.field("system") == "stage2")


def _written_down(keys: Keys, champion: str | None, run: str, decision: GateDecision, drift: Drift | None) -> Judgement:
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
    return Judgement(
        model=keys["stage2"],
        run=run,
        promote=decision.promote,
        reasons=decision.reasons,
        comparisons=comparisons,
        drift=asdict(drift) if drift else None,
        champion=champion,
        keys=dict(keys),
    )


def _uri(workspace: str, model_id: str) -> str:
    return storage.join(workspace, "published", "judgements", f"{model_id}.json")
