"""The typed configuration: sections, defaults (the paper's), loading and fingerprints."""

from __future__ import annotations

import difflib
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from htcl import storage
from htcl.errors import HTCLError


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


TableFormat = Literal["auto", "parquet", "jsonl", "csv"]


class CatalogConfig(Section):
    """Where the catalog and its audio lie, and what their columns are called."""

    path: str = Field(description="File or folder of the catalog (Parquet, JSONL or CSV)")
    format: TableFormat = Field("auto", description="auto reads it off the file names")
    columns: dict[str, str] = Field({}, description="contract column -> its name in the input")
    audio_root: str = Field("", description="Folder that audio_path starts from; empty: the catalog's folder")
    max_reject_share: float = Field(0.05, ge=0, le=1, description="Above this share of rejects the step fails")


class PositiveRule(Section):
    """When an event of one type counts as a positive response."""

    min_duration_ratio: float | None = Field(None, ge=0, le=1, description="Least share heard; null passes")


class InteractionsConfig(Section):
    """Where the interaction log lies, what its columns are called, which events are positive."""

    path: str = Field(description="File or folder of the log (Parquet, JSONL or CSV, any date partitions)")
    format: TableFormat = Field("auto", description="auto reads it off the file names")
    columns: dict[str, str] = Field({}, description="contract column -> its name in the input")
    timezone: str = Field("UTC", description="Time zone of timestamps that name none")
    positive: dict[str, PositiveRule] = Field(
        {"like": PositiveRule(), "play": PositiveRule(min_duration_ratio=0.5)},
        description="Event types that count as a positive response, with their condition",
    )
    max_reject_share: float = Field(0.05, ge=0, le=1, description="Above this share of rejects the step fails")


class PairsConfig(Section):
    """How positive events become co-preference pairs."""

    session_gap_minutes: int = Field(30, gt=0, description="Idle time that ends a session the log does not name")
    max_basket_size: int = Field(100, gt=1, description="Songs of one basket that are paired at most")
    min_users: int = Field(5, ge=1, description="Distinct users that a pair needs; protects listeners")
    window_days: int | None = Field(None, gt=0, description="Days before the newest that count; empty: all")
    half_life_days: float | None = Field(None, gt=0, description="Age at which a basket counts half; empty: never")
    score: Literal["count", "cosine", "npmi", "bm25"] = Field("cosine", description="What ranks the positives")
    top_k: int = Field(50, gt=0, description="Positives kept per anchor and source")


class SplitConfig(Section):
    """Which songs and which days are kept for evaluation."""

    test_share: float = Field(0.1, ge=0, lt=1, description="Share of split groups that no training sees")
    validation_share: float = Field(0.05, ge=0, lt=1, description="Share of split groups for validation")
    warm_test_share: float = Field(0.1, ge=0, lt=1, description="Newest share of the log, kept for warm test pairs")
    seed: int = 3407

    @model_validator(mode="after")
    def _check_shares(self) -> SplitConfig:
        if self.test_share + self.validation_share >= 1:
            raise ValueError(
                f"test_share = {self.test_share:g} and validation_share = {self.validation_share:g} "
                "leave nothing to train on"
            )
        return self


class AudioConfig(Section):
    """Decoding and log-mel (paper: 128 ms windows, 96 ms hop, 128 mels, first two minutes)."""

    sample_rate: int = Field(16_000, gt=0, description="Hz")
    n_mels: int = Field(128, gt=0)
    n_fft: int = Field(2048, gt=0, description="Samples of the Hann window")
    hop_length: int = Field(1536, gt=0, description="Samples")
    top_db: float = Field(80.0, gt=0, description="Dynamic range kept, dB")
    max_seconds: float = Field(120.0, gt=0, description="Decoding stops here")
    min_seconds: float = Field(2.0, gt=0, description="Shorter audio is rejected")
    max_reject_share: float = Field(0.05, ge=0, le=1, description="Above this share of rejects the step fails")


class ShardsConfig(Section):
    """How WebDataset shards are cut."""

    max_mb: float = Field(256.0, gt=0, description="MB after which a shard is closed")


class ModelConfig(Section):
    """Sizes of the model (defaults: the published checkpoints)."""

    text_encoder: str = Field(
        "bert-base-multilingual-uncased",
        description="Folder, hub name, or package:NAME/FOLDER of a BERT",
    )
    text_pooling: Literal["pooler", "mean"] = Field("pooler", description="mean for encoders trained that way")
    text_max_tokens: int = Field(128, gt=0)
    text_fields: list[str] = Field(
        ["title", "artist", "album", "genre", "language", "tags"],
        description="Metadata read as text, in order",
    )
    conv_filters: list[int] = [512, 512, 512]
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    projection_sizes: list[int] = Field([384, 192, 100], description="Layers of the audio and text heads")
    fusion_sizes: list[int] = Field([200, 100, 100], description="Layers of the fusion head")
    dropout: float = Field(0.1, ge=0, lt=1)
    reference_parity: bool = Field(False, description="Reproduce the authors' code, known defects included")


class TrainingConfig(Section):
    """What both stages share: processes, precision, logging, checkpoints."""

    processes: int = Field(1, gt=0, description="Ranks started on this host")
    precision: Literal["fp32", "bf16"] = "fp32"
    zero_stage: Literal[0, 1, 2] = 0
    gradient_clipping: float = Field(1.0, gt=0)
    seed: int = 3407
    log_every_steps: int = Field(10, gt=0)
    checkpoint_every_steps: int = Field(500, gt=0)
    collective_timeout_seconds: int = Field(600, gt=0, description="A rank that is silent for longer ends the run")


class StageConfig(Section):
    """One stage's recipe."""

    epochs: int = Field(20, gt=0)
    global_batch_size: int = Field(32, gt=1, description="Songs (stage 1) or pairs (stage 2) the loss sees at once")
    text_encoder_lr: float = Field(1e-5, ge=0, description="0 freezes the text encoder")
    audio_encoder_lr: float = Field(1e-4, ge=0)
    head_lr: float = Field(1e-4, ge=0, description="Heads, fusion and temperatures")


class Stage2Config(StageConfig):
    """Stage 2's recipe: the encoders move slowly, the heads do not."""

    audio_encoder_lr: float = Field(1e-5, ge=0)


class EmbeddingConfig(Section):
    """The batch job that embeds the catalog."""

    batch_size: int = Field(64, gt=0)


class SearchConfig(Section):
    """The similarity index."""

    index_factory: str = Field("Flat", description="A FAISS index factory string, such as Flat or HNSW32")


class EvaluationConfig(Section):
    """How systems are compared."""

    bootstrap_samples: int = Field(2000, gt=0)
    confidence: float = Field(0.95, gt=0, lt=1)
    seed: int = 0


class GateConfig(Section):
    """What a candidate must hold to become champion."""

    tolerance: float = Field(0.0, ge=0, description="Loss of a metric that is accepted even beyond the noise")
    min_effective_rank: float = Field(4.0, gt=0, description="Below it the embeddings have collapsed")
    max_mean_cosine: float = Field(0.9, gt=0, le=1, description="Above it the embeddings have collapsed")


class SparkConfig(Section):
    """The Spark session of the jobs (a --master given to spark-submit wins)."""

    master: str = "local[*]"
    driver_memory: str = "2g"
    conf: dict[str, str] = {}


class NightlyConfig(Section):
    """The scheduled fine-tune: stage 2 goes on from the champion."""

    epochs: int = Field(2, gt=0)


class ReportConfig(Section):
    """What the report shows beside the figures."""

    text_queries: list[str] = Field([], description="Searches shown with their top songs")
    previews: int = Field(40, ge=0, description="Songs that can be played in the report")


class PipelineConfig(Section):
    """Everything a run depends on; one YAML file of a few lines over these defaults."""

    name: str = Field("htcl", description="Name in reports and logs")
    workspace: str = Field(description="Folder or URI where artifacts, tables and shards are kept")
    catalog: CatalogConfig
    interactions: InteractionsConfig
    pairs: PairsConfig = PairsConfig()
    split: SplitConfig = SplitConfig()
    audio: AudioConfig = AudioConfig()
    shards: ShardsConfig = ShardsConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    stage1: StageConfig = StageConfig()
    stage2: Stage2Config = Stage2Config()
    embedding: EmbeddingConfig = EmbeddingConfig()
    search: SearchConfig = SearchConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig = GateConfig()
    spark: SparkConfig = SparkConfig()
    nightly: NightlyConfig = NightlyConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _check_batches(self) -> PipelineConfig:
        for stage in ("stage1", "stage2"):
            batch = getattr(self, stage).global_batch_size
            if batch % self.training.processes:
                raise ValueError(
                    f"{stage}.global_batch_size = {batch} is not a multiple of "
                    f"training.processes = {self.training.processes}"
                )
        return self


def fingerprint(value: Any, length: int = 16) -> str:
    """Hash any JSON-like value or section; equal content gives equal text on every machine."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def load_config(path: str | Path, overrides: list[str] | None = None) -> PipelineConfig:
    """Read a YAML file, lay it over its `preset`, apply `key.path=value` overrides and check it.

    Relative paths in the file are taken from the file's folder.

    Raises:
        HTCLError: naming the file, the key, and the nearest valid key.
    """
    path = Path(path)
    values = _read_yaml(path)
    if any(override.partition("=")[0].strip() == "preset" for override in overrides or []):
        raise HTCLError("preset cannot be overridden; name it in the config file")
    preset = values.pop("preset", None)
    if preset is not None:
        values = _merge(_read_preset(str(preset)), values)
    for override in overrides or []:
        values = _override(values, override)
    _anchor_paths(values, path.resolve().parent)
    return validate_config(values, str(path))


def validate_config(values: dict[str, Any], origin: str) -> PipelineConfig:
    """Check plain values against `PipelineConfig`; `origin` names them in errors."""
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        lines = "; ".join(_explain(problem) for problem in error.errors())
        raise HTCLError(f"{origin}: {lines}") from None


def save_config(config: PipelineConfig, path: Path) -> Path:
    """Write the resolved configuration as YAML, so that another process loads the same."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    storage.write_bytes(str(path), text.encode())  # two steps at once write the same file
    return path


def preset_names() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(f.name.removesuffix(".yaml") for f in (resources.files("htcl") / "presets").iterdir())


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise HTCLError(f"cannot read the config file {path}: {error.strerror}; check the path") from None
    except UnicodeDecodeError as error:
        raise HTCLError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise HTCLError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise HTCLError(f"{path} holds no settings; it needs at least workspace, catalog and interactions")
    return values


class _Loader(yaml.SafeLoader):
    """The safe loader, but a key that stands twice is an error: YAML would drop the first in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys are all different."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_preset(name: str) -> dict[str, Any]:
    if name not in preset_names():
        raise HTCLError(f"preset: there is no preset {name!r}{_nearest(name, preset_names())}")
    text = (resources.files("htcl") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text) or {}


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        # What counts as positive replaces the default as a whole: merging would keep types nobody asked for.
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "positive"
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _override(values: dict[str, Any], text: str) -> dict[str, Any]:
    """Lay `section.key=value` over the values."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise HTCLError(f"override {text!r} is not of the form section.key=value")
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise HTCLError(f"override {text!r}: {value!r} is not a YAML value; quote it") from None
    parts = key.strip().split(".")
    for part in reversed(parts):
        tree = {part: tree}
    if parts[:2] == ["interactions", "positive"] and len(parts) > 2:
        # One type is meant here, so the others stay.
        log = values.get("interactions")
        types = log.get("positive") if isinstance(log, dict) else None
        if not isinstance(types, dict):
            types = {name: rule.model_dump() for name, rule in _default_positive().items()}
        tree["interactions"]["positive"] = _merge(types, tree["interactions"]["positive"])
    return _merge(values, tree)


def _default_positive() -> dict[str, PositiveRule]:
    return dict(InteractionsConfig.model_fields["positive"].default)


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Make relative paths absolute, in place; URIs stay as they are."""
    places = [(values, "workspace")]
    places += [(values[s], k) for s, k in _PATH_KEYS if isinstance(values.get(s), dict)]
    for section, key in places:
        value = section.get(key)
        if isinstance(value, str) and value and "://" not in value:
            section[key] = str((folder / Path(value).expanduser()).resolve())


_PATH_KEYS = [("catalog", "path"), ("catalog", "audio_root"), ("interactions", "path")]


def _explain(problem: Any) -> str:
    """Turn one pydantic error into a phrase that names the key and the way out."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_nearest(location[-1], _keys_beside(location))}"
    if problem["type"] == "missing":
        return f"{key!r} is missing; it has no default"
    if problem["type"] in ("model_type", "dict_type"):
        return f"{key!r} needs settings below it, such as {{}} (got {problem['input']!r})"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":  # ours: it names the values itself
        return f"{key}: {message}" if key else message
    return f"{key!r}: {message} (got {problem['input']!r})"


def _keys_beside(location: list[str]) -> list[str]:
    model: type[BaseModel] = PipelineConfig
    for part in location[:-1]:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return sorted(PositiveRule.model_fields) if "positive" in location else []
        model = annotation
    return sorted(model.model_fields) + (["preset"] if len(location) == 1 else [])


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; valid here: {', '.join(known)}"
