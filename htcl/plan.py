"""What a run consists of: every step's recipe and key, and why a step would run.

The graph is known before anything runs: a key depends on raw inputs, settings and step versions only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from htcl import storage
from htcl.artifacts import ArtifactStore, Recipe
from htcl.config import PipelineConfig, fingerprint
from htcl.errors import HTCLError
from htcl.ingest.reading import SUFFIXES, input_files
from htcl.pairs.log_index import RECOUNTED
from htcl.pairs.store import pair_table
from htcl.users import forgotten_users

STEP_VERSIONS = {
    "catalog": 1,
    "pairs": 3,
    "shards": 3,
    "stage1": 3,
    "stage2": 2,
    "gate_set": 1,
    "evaluation": 5,
    "embeddings": 1,
    "index": 1,
    "report": 4,
}
"""Raised when the output of a step changes its meaning."""

_AUDIO_ENDS = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac")

_OPERATIONAL = {
    "catalog": {"path", "format", "audio_root", "max_reject_share"},
    "interactions": {"path", "format", "max_reject_share"},
    "pairs": {"buckets"},
    "audio": {"max_reject_share", "decode_seconds", "decode_memory_mb"},
    "shards": {"max_mb"},
    "training": {
        "processes",
        "hostfile",
        "zero_stage",
        "micro_batch_size",
        "activation_checkpointing",
        "deepspeed",
        "tracking_folder",
        "log_every_steps",
        "checkpoint_every_steps",
        "grace_seconds",
        "stall_seconds",
    },
}
"""Settings that change how a step runs, not what comes out."""


@dataclass(frozen=True)
class Step:
    """One box of the DAG as it stands for one configuration."""

    name: str
    recipe: Recipe
    published: bool
    reason: str

    @property
    def key(self) -> str:
        """The artifact key."""
        return self.recipe.key


def raw_inputs(config: PipelineConfig) -> dict[str, str]:
    """Fingerprints of catalog, log and audio as they are now, by the name under which recipes list them.

    A run takes them once: what arrives while it runs belongs to the next one.

    Raises:
        HTCLError: when an input is not there or cannot be read.
    """
    return {
        "catalog_input": _table_fingerprint(config.catalog, "catalog"),
        "log_input": _log_fingerprint(config),
        "audio_input": _audio_fingerprint(config),
    }


def plan(
    config: PipelineConfig,
    champion: str | None = None,
    fine_tune: bool = True,
    inputs: Mapping[str, str] | None = None,
) -> dict[str, Step]:
    """Work out all steps, each after those that it reads.

    Args:
        config: the configuration.
        inputs: from `raw_inputs`; taken now where they are not given.
        champion: a stage-2 key to build on instead of training from the start, with the stage 1 behind it.
        fine_tune: with a champion, train it further; else its own key stands for stage 2.

    Raises:
        HTCLError: when an input is not there or cannot be read.
    """
    store = ArtifactStore(config.workspace)
    keys = {**(inputs or raw_inputs(config)), **_given(store, champion, fine_tune)}
    steps = {}
    for name, section, parents in _graph(config, champion):
        if name in keys:
            continue
        recipe = Recipe(name, STEP_VERSIONS[name], section, {k: v or keys[k] for k, v in parents.items()})
        keys[name] = recipe.key
        published = store.published(name, recipe.key)
        reason = "published" if published else _why(store, recipe)
        steps[name] = Step(name, recipe, published, reason)
    return steps


def _given(store: ArtifactStore, champion: str | None, fine_tune: bool) -> dict[str, str]:
    """Models that are taken as they are."""
    if champion is None:
        return {}
    stage1 = {"stage1": _ancestor(store, champion, "stage1")}
    return stage1 if fine_tune else {**stage1, "stage2": champion}


def _graph(config: PipelineConfig, champion: str | None) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
    """(step, settings, inputs); an input with an empty value is the step, or the raw input, of that name."""
    sides = config.split.model_dump(mode="json", exclude={"warm_test_share", "cutoff_day"})
    catalog = {"catalog": _section(config.catalog, "catalog"), "split": sides}
    pairs = {
        "interactions": _section(config.interactions, "interactions"),
        "pairs": _section(config.pairs, "pairs"),
        "split": _section(config.split),
    }
    training = _section(config.training, "training")
    stage1 = {"model": _section(config.model), "training": training, "stage1": _section(config.stage1)}
    stage2 = {"training": training, "stage2": _section(config.stage2)}
    start = {"stage1": ""}
    if champion:
        start = {"champion": champion}
        stage2["stage2"] |= {"epochs": config.nightly.epochs}
    data = {"catalog": "", "shards": ""}
    shards = {"audio": _section(config.audio, "audio"), "shards": _section(config.shards, "shards")}
    untrained = {"text_encoder", "text_pooling", "text_max_tokens"}
    evaluation = {
        "evaluation": _section(config.evaluation),
        "text alone": config.model.model_dump(mode="json", include=untrained),
    }
    models = {"stage1": "", "stage2": ""}
    # What the report says of the gate hangs on its limits.
    report = {"name": config.name, "gate": _section(config.gate), "report": _section(config.report)}
    return [
        ("catalog", catalog, {"catalog_input": ""}),
        ("shards", shards, {"catalog": "", "audio_input": ""}),
        ("pairs", pairs, {"catalog": "", "shards": "", "log_input": ""}),
        ("stage1", stage1, data),
        ("stage2", stage2, {**start, "pairs": "", **data}),
        ("gate_set", {"songs": config.gate.songs}, {**models, "pairs": "", **data}),
        ("evaluation", evaluation, {"gate_set": "", "pairs": ""}),
        ("embeddings", {}, {**models, **data}),
        ("index", {"search": _section(config.search)}, {"embeddings": ""}),
        ("report", report, {"evaluation": ""}),
    ]


def audio_root(config: PipelineConfig) -> str:
    """Folder that the catalog's audio paths start from."""
    if config.catalog.audio_root:
        return config.catalog.audio_root
    path = config.catalog.path
    fs, native = storage.filesystem(path)
    return path if fs.isdir(native) else path.rsplit("/", 1)[0]


def _section(section: BaseModel, name: str = "") -> dict[str, Any]:
    return section.model_dump(mode="json", exclude=_OPERATIONAL.get(name, set()))


def _table_fingerprint(section: Any, origin: str) -> str:
    _, files = input_files(section.path, section.format, origin)
    names, wanted = storage.list_files(section.path), set(files)
    single = section.path in wanted
    return fingerprint({n: tag for n, tag in names.items() if single or storage.join(section.path, n) in wanted})


def _log_fingerprint(config: PipelineConfig) -> str:
    """What the log is to a run: its files, less the users that were forgotten, and days that were counted again."""
    files = _table_fingerprint(config.interactions, "interactions")
    more = [forgotten_users(config.workspace), pair_table(config.workspace).properties().get(RECOUNTED)]
    return fingerprint([files, *more]) if any(more) else files


def _audio_fingerprint(config: PipelineConfig) -> str:
    """What the audio files are; a workspace, a config file or a `.git` that lies beside them is no audio."""
    others = (*(end for ends in SUFFIXES.values() for end in ends), ".yaml", ".yml")
    root = audio_root(config).rstrip("/") + "/"
    own = config.workspace.rstrip("/") + "/"
    inside = own.removeprefix(root) if own.startswith(root) else None
    names = storage.list_files(root, hidden=True)
    return fingerprint(
        {
            name: tag
            for name, tag in names.items()
            if not name.lower().endswith(others)
            and not (inside and name.startswith(inside))
            and (name.lower().endswith(_AUDIO_ENDS) or not storage.is_hidden(name))
        }
    )


def _ancestor(store: ArtifactStore, key: str, kind: str) -> str:
    """The key of the `kind` that a stage-2 model descends from, over any number of fine-tunes."""
    manifest = store.lineage("stage2", key)
    if manifest is None:
        raise HTCLError(f"stage2 {key} is not published in {store.workspace}; `htcl models CONFIG` lists what is")
    inputs = manifest["inputs"]
    return str(inputs[kind]) if kind in inputs else _ancestor(store, inputs["champion"], kind)


def _why(store: ArtifactStore, recipe: Recipe) -> str:
    """Hold a recipe against the newest published artifact of its kind."""
    manifests = store.manifests(recipe.kind)
    if not manifests:
        return "never run here"
    last = manifests[-1]
    if last["step_version"] != recipe.step_version:
        return f"step version {last['step_version']} -> {recipe.step_version}"
    changes = _differences(last["section"], recipe.section)
    changes += [f"{name} changed" for name, key in recipe.inputs.items() if last["inputs"].get(name) != key]
    return "; ".join(changes) or "its artifact is gone"


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{path}.{k}".lstrip("."))]
    return [] if old == new else [f"{path}: {old} -> {new}"]
