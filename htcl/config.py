"""The typed configuration: sections, their defaults (the paper's), and fingerprints."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
        description="Folder (/…, ./…), hub name, or package:NAME/FOLDER of a BERT",
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
    dropout: float = Field(0.1, ge=0, lt=1, description="In the audio encoder and the heads")


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
