"""The typed configuration: sections, their defaults (the paper's), and fingerprints."""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, Field, PositiveInt, field_validator, model_validator

from htcl.card_config import ReportCardConfig
from htcl.section import Section
from htcl.text import DEFAULT_TEXT_FIELDS, TextColumn

TableFormat = Literal["auto", "parquet", "jsonl", "csv"]


class CatalogConfig(Section):
    """Where the catalog and its audio lie, and what their columns are called."""

    path: str = Field(description="File or folder of the catalog (Parquet, JSONL or CSV)")
    format: TableFormat = Field("auto", description="auto reads it off the file names")
    columns: dict[str, str] = Field(
        {}, description="contract column -> its name in the input; an optional column that is mapped must be there"
    )
    audio_root: str = Field("", description="Folder that audio_path starts from; empty: the catalog's folder")
    max_reject_share: float = Field(0.05, ge=0, le=1, description="Above this share of rejects the step fails")


class PositiveRule(Section):
    """When an event of one type counts as a positive response."""

    min_duration_ratio: float | None = Field(None, ge=0, le=1, description="Least share heard; null passes")
    min_seconds: float | None = Field(None, ge=0, description="Least seconds heard; null passes")


class NegativeRule(Section):
    """When an event of one type counts as a negative response, such as a skip in the first seconds."""

    max_duration_ratio: float | None = Field(None, ge=0, le=1, description="Greatest share heard; null passes")
    max_seconds: float | None = Field(None, ge=0, description="Greatest number of seconds heard; null passes")


class InteractionsConfig(Section):
    """Where the interaction log lies, what its columns are called, which events are positive."""

    path: str = Field(description="File or folder of the log (Parquet, JSONL or CSV, any date partitions)")
    format: TableFormat = Field("auto", description="auto reads it off the file names")
    columns: dict[str, str] = Field(
        {}, description="contract column -> its name in the input; an optional column that is mapped must be there"
    )
    timezone: str = Field("UTC", description="Time zone of timestamps that name none")
    positive: dict[str, PositiveRule] = Field(
        {"like": PositiveRule(), "play": PositiveRule(min_duration_ratio=0.5)},
        description="Event types that count as a positive response, with their condition; "
        "setting it replaces the defaults as a whole",
    )
    negative: dict[str, NegativeRule] = Field(
        {},
        description="Event types that count as a negative response: such a song is no positive of its basket, and a "
        "triggered pair becomes a rate",
    )
    impressions: list[str] = Field(
        [], description="Event types that only say that a song was shown; they turn triggered pairs into rates"
    )
    max_reject_share: float = Field(
        0.05, ge=0, le=1, description="Above this share of rejects, or of songs that the catalog lacks, the step fails"
    )

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # unknown, no such path, a folder of zones
            zones = {zone.lower(): zone for zone in available_timezones()}
            close = difflib.get_close_matches(name.lower(), zones, n=1)
            way_out = f"did you mean {zones[close[0]]!r}?" if close else "give an IANA name, such as Europe/Berlin"
            raise ValueError(f"{name!r} is no time zone; {way_out}") from None
        return name


class PairsConfig(Section):
    """How positive events become co-preference pairs."""

    lookback_days: int = Field(
        0, ge=0, description="Days before its own in which a user's songs are paired with a song, too"
    )
    symmetric_sources: list[Literal["copreference", "triggered"]] = Field(
        ["copreference"],
        description="Sources whose pairs count both ways; else the trigger, or the song heard first, is the anchor",
    )
    heavy_user_percentile: float | None = Field(
        None,
        gt=0,
        lt=100,
        description="Users more active on a day than this share (%) of its users are bots; empty: none",
    )
    heavy_users: Literal["downweight", "drop"] = Field(
        "downweight",
        description="Of a heavy user's day keep as many responses as the percentile has, or nothing",
    )
    session_gap_minutes: int = Field(30, gt=0, description="Idle time that ends a session the log does not name")
    max_basket_size: int = Field(100, gt=1, description="Songs of one basket that are paired at most")
    min_users: int = Field(5, ge=1, description="Distinct users that a pair needs; protects listeners")
    min_lift: float = Field(
        1.0,
        ge=0,
        description="Baskets of a co-preference pair over what chance gives; below it songs are only popular",
    )
    first_day: dt.date | None = Field(None, description="Days before it do not count; empty: as far as window_days")
    window_days: int | None = Field(None, gt=0, le=36_500, description="Days before the newest that count; empty: all")
    half_life_days: float | None = Field(None, gt=0, description="Age at which a basket counts half; empty: never")
    score: Literal["count", "cosine", "npmi", "bm25"] = Field("cosine", description="What ranks the positives")
    top_k: int = Field(50, gt=0, description="Positives kept per anchor and source")
    max_artist_share: float = Field(
        1.0, gt=0, le=1, description="Share of an anchor's positives that may be by its own artist"
    )
    unusual_factor: float = Field(
        3.0, gt=1, description="A day that has so many times more or less of anything than the week before is told"
    )
    buckets: int = Field(
        16, gt=0, description="Parts that pairs are shared out to, a power of two: more need less memory each"
    )
    part_mb: float = Field(
        32, gt=0, description="Log that one task counts; a task needs about 100 B for each pair of its baskets"
    )

    @field_validator("buckets")
    @classmethod
    def _check_buckets(cls, buckets: int) -> int:
        if buckets & (buckets - 1):
            raise ValueError(f"{buckets} is no power of two; take {1 << buckets.bit_length()}")
        return buckets


class SplitConfig(Section):
    """Which songs and which days are kept for evaluation."""

    test_share: float = Field(0.1, ge=0, lt=1, description="Share of split groups that no training sees")
    validation_share: float = Field(0.05, ge=0, lt=1, description="Share of split groups for validation")
    test_artist_share: float = Field(
        0.0, ge=0, lt=1, description="Share of artists of whom no training sees a song, beside test_share"
    )
    warm_test_share: float = Field(0.1, ge=0, lt=1, description="Newest share of the log, kept for warm test pairs")
    cutoff_day: dt.date | None = Field(
        None, description="First day that is kept for them, in place of warm_test_share; empty: by the share"
    )
    seed: int = Field(3407, description="Another seed gives another split")

    @model_validator(mode="after")
    def _check_shares(self) -> SplitConfig:
        if self.test_share + self.validation_share >= 1:
            raise ValueError(
                f"test_share = {self.test_share:g} and validation_share = {self.validation_share:g} "
                "leave nothing to train on; lower one of them"
            )
        return self


class AudioConfig(Section):
    """Decoding and log-mel (paper: 128 ms windows, 96 ms hop, 128 mels, first two minutes)."""

    sample_rate: int = Field(16_000, gt=0, description="Hz")
    n_mels: int = Field(128, gt=0, description="Mel bands of a frame")
    n_fft: int = Field(2048, gt=0, description="Samples of the Hann window")
    hop_length: int = Field(1536, gt=0, description="Samples from one frame to the next")
    top_db: float = Field(80.0, gt=0, description="Dynamic range kept, dB")
    max_seconds: float = Field(120.0, gt=0, description="Audio after this is not read")
    min_seconds: float = Field(2.0, gt=0, description="Shorter audio is rejected")
    max_reject_share: float = Field(0.05, ge=0, le=1, description="Above this share of rejects the step fails")
    decode_seconds: float = Field(60.0, gt=0, description="Seconds after which the decoding of a file is given up")
    decode_memory_mb: int = Field(1024, ge=256, description="MB of address space that a decoding process may take")

    @model_validator(mode="after")
    def _check_seconds(self) -> AudioConfig:
        if self.max_seconds < self.min_seconds:
            raise ValueError(
                f"max_seconds = {self.max_seconds:g} is less than min_seconds = {self.min_seconds:g}, "
                "which rejects every song; raise max_seconds"
            )
        return self


class ShardsConfig(Section):
    """How WebDataset shards are cut."""

    max_mb: float = Field(256.0, gt=0, description="MB after which a shard is closed")


CONV_KERNELS = (5, 3, 3)
CONV_STRIDES = (2, 2, 2)
"""With the kernels: the audio encoder's convolutions, the same in every model that the pipeline trains."""


def min_frames(kernels: Sequence[int] = CONV_KERNELS, strides: Sequence[int] = CONV_STRIDES) -> int:
    """Fewest frames that the convolutions turn into one position (17 at the published sizes, 1.6 s)."""
    frames = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        frames = (frames - 1) * stride + kernel
    return frames


class ModelConfig(Section):
    """Sizes of the model (defaults: the published checkpoints)."""

    text_encoder: str = Field(
        "bert-base-multilingual-uncased",
        description="Folder (/…, ./…), hub name, or package:NAME/FOLDER of a BERT",
    )
    text_pooling: Literal["pooler", "mean"] = Field("pooler", description="mean for encoders trained that way")
    text_max_tokens: int = Field(128, gt=0, description="Tokens after which a text is cut")
    text_fields: list[TextColumn] = Field(
        list(DEFAULT_TEXT_FIELDS),
        min_length=1,
        description="Catalog columns read as text, in order",
    )
    conv_filters: list[PositiveInt] = Field(
        [512, 512, 512], description="Output channels of the audio encoder's three convolutions"
    )
    hidden_size: int = Field(
        768, gt=0, description="Width of the audio Transformer; a multiple of 16 and of num_attention_heads"
    )
    num_hidden_layers: int = Field(12, gt=0, description="Layers of the audio Transformer")
    num_attention_heads: int = Field(12, gt=0, description="Attention heads of a layer")
    intermediate_size: int = Field(3072, gt=0, description="Width of a layer's feed-forward block")
    projection_sizes: list[PositiveInt] = Field(
        [384, 192, 100],
        min_length=1,
        description="Layers of the audio and text heads; the last is the embedding's width",
    )
    fusion_sizes: list[PositiveInt] = Field(
        [200, 100, 100],
        min_length=1,
        description="Layers of the fusion head; the last is that of projection_sizes",
    )
    reference_parity: bool = Field(False, description="Reproduce the authors' code, known defects included")

    @model_validator(mode="after")
    def _check_sizes(self) -> ModelConfig:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size = {self.hidden_size} is not a multiple of "
                f"num_attention_heads = {self.num_attention_heads}; change one of them"
            )
        if self.fusion_sizes[-1] != self.projection_sizes[-1]:
            raise ValueError(
                f"fusion_sizes ends in {self.fusion_sizes[-1]} and projection_sizes in {self.projection_sizes[-1]}, "
                "but stage 2 compares the two embeddings; end both in the same number"
            )
        return self


class TrainingConfig(Section):
    """What both stages share: processes, precision, logging, checkpoints."""

    processes: int = Field(1, gt=0, description="Ranks started on this host, where no hostfile says otherwise")
    hostfile: str = Field("", description="File with a line `HOST slots=N` for each host; ranks start there over ssh")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Number format of activations; weights, gradients and the loss are float32"
    )
    zero_stage: Literal[0, 1, 2] = Field(
        0, description="DeepSpeed ZeRO, what ranks share out: 0 nothing, 1 optimizer state, 2 also gradients"
    )
    gradient_clipping: float = Field(
        1.0, ge=0, description="Greatest norm of a gradient; a longer one is scaled down; 0: never"
    )
    micro_batch_size: int | None = Field(
        None,
        gt=0,
        description="Songs that a rank encodes at once: less memory, by encoding twice (cached gradients); "
        "empty: all, once",
    )
    activation_checkpointing: bool = Field(
        False, description="Keep only the inputs of each layer and compute it again: less memory, a third slower"
    )
    deepspeed: dict[str, Any] = Field(
        {}, description="Further DeepSpeed settings by their own names, such as {zero_optimization: {…}}"
    )
    seed: int = Field(3407, ge=0, description="Seed of new weights, the order of songs and dropout")
    log_every_steps: int = Field(10, gt=0, description="Steps from one line of the log to the next")
    tracking_folder: str = Field(
        "", description="Folder of TensorBoard's and MLflow's files; empty: tracking/ in a local workspace"
    )
    checkpoint_every_steps: int = Field(500, gt=0, description="Steps between checkpoints, where a broken run resumes")
    grace_seconds: int = Field(
        8,
        gt=0,
        description="From SIGTERM to SIGKILL: room for a step and a checkpoint, less than a scheduler gives",
    )
    stall_seconds: int = Field(
        600,
        gt=0,
        description="A rank that stays in one phase of a step for longer ends the run, as does one that loads or saves "
        "for six times as long",
    )

    @field_validator("deepspeed")
    @classmethod
    def _check_deepspeed(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for path, dial in _DEEPSPEED_DIALS.items():
            first, _, second = path.partition(".")
            if second and not isinstance(settings.get(first, {}), dict):
                raise ValueError(f"{first} = {settings[first]!r} needs settings below it, such as {{}}")
            if first in settings and (not second or second in settings[first]):
                raise ValueError(f"{path} is set by {dial}; set that and leave it out here")
        return settings


_DEEPSPEED_DIALS = {
    "train_batch_size": "stage1.global_batch_size and stage2.global_batch_size",
    "train_micro_batch_size_per_gpu": "training.micro_batch_size",
    "gradient_accumulation_steps": "training.micro_batch_size",
    "gradient_clipping": "training.gradient_clipping",
    "zero_optimization.stage": "training.zero_stage",
    "bf16": "training.precision",
    "fp16": "training.precision",
    "torch_autocast": "training.precision",
    "optimizer": "the learning rates of stage1 and stage2",
    "scheduler": "stage1.lr_scheduler_type and stage2.lr_scheduler_type",
}
"""DeepSpeed's settings that have a dial of ours: there is one place for each."""


class StageConfig(Section):
    """One stage's recipe."""

    epochs: int = Field(
        20, ge=0, description="Passes over the songs (stage 1) or pairs (stage 2); 0 leaves the model as it begins"
    )
    global_batch_size: int = Field(32, gt=1, description="Songs (stage 1) or pairs (stage 2) the loss sees at once")
    text_encoder_lr: float = Field(1e-5, ge=0, description="Learning rate; 0 freezes the text encoder")
    audio_encoder_lr: float = Field(1e-4, ge=0, description="Learning rate; 0 freezes the audio encoder")
    text_head_lr: float = Field(
        1e-4, ge=0, description="Learning rate; 0 freezes the text head: texts stay where they are, and songs move"
    )
    head_lr: float = Field(1e-4, ge=0, description="Learning rate of audio head, fusion and temperatures")
    dropout: float = Field(0.1, ge=0, lt=1, description="Probability, in the audio encoder and the heads")
    lr_scheduler_type: Literal["constant", "cosine"] = Field(
        "constant", description="Learning rates after the warm-up: as they are, or along a half cosine to 0"
    )
    warmup_ratio: float = Field(0.0, ge=0, lt=1, description="Share of the steps in which learning rates rise from 0")
    mask_false_negatives: bool = Field(
        True, description="Songs of one split group, and in stage 2 all known pairs, are no negatives of each other"
    )
    text_field_dropout: float = Field(
        0.0, ge=0, lt=1, description="Probability that a metadata field, or a tag in one, is left out"
    )
    crop_seconds: float | None = Field(
        None, gt=0, description="Seconds of a song that a step reads, from a place drawn at random; empty: all"
    )
    time_mask_ratio: float = Field(0.0, ge=0, lt=1, description="Greatest share of a song's frames that is masked")
    frequency_mask_ratio: float = Field(0.0, ge=0, lt=1, description="Greatest share of the mel bands that is masked")

    @property
    def augments(self) -> bool:
        """Whether texts or log-mels are changed at random."""
        return bool(self.text_field_dropout or self.crop_seconds or self.time_mask_ratio or self.frequency_mask_ratio)


class LossWeights(Section):
    """Weights of the terms of stage 2's loss (paper: 1, 1, 1)."""

    audio_text: float = Field(1.0, ge=0, description="What the songs are")
    audio_audio: float = Field(1.0, ge=0, description="Who likes them, by sound alone")
    audio_fusion: float = Field(1.0, ge=0, description="Who likes them, by sound against sound and text")


class Stage2Config(StageConfig):
    """Stage 2's recipe: the encoders move slowly, the heads do not."""

    audio_encoder_lr: float = Field(1e-5, ge=0, description="Learning rate; 0 freezes the audio encoder")
    loss_weights: LossWeights = Field(LossWeights(), description="What each term of the loss counts")
    popularity_correction: bool = Field(
        False, description="Logits lose the log probability with which their column is drawn (logQ)"
    )
    hard_negative_share: float = Field(
        0.0, ge=0, le=1, description="Share of a batch that is drawn from one neighbourhood of the pair graph"
    )


_NOT_THE_AUTHORS = (
    "text_field_dropout",
    "crop_seconds",
    "time_mask_ratio",
    "frequency_mask_ratio",
    "popularity_correction",
    "hard_negative_share",
)
"""Settings of a stage that reference parity has no place for."""


class EmbeddingConfig(Section):
    """The batch job that embeds the catalog."""

    batch_size: int = Field(64, gt=0, description="Songs embedded at once; more need more memory")


class SearchConfig(Section):
    """The similarity index."""

    index_factory: str = Field("Flat", description="A FAISS index factory string, such as Flat or HNSW32")


class EvaluationConfig(Section):
    """How systems are compared."""

    bootstrap_samples: int = Field(2000, gt=0, description="Resamples of the queries behind an interval")
    confidence: float = Field(0.95, gt=0, lt=1, description="Share of resamples that an interval holds")
    seed: int = Field(0, ge=0, description="Seed of the resamples and of the random system")


class GateConfig(Section):
    """What a candidate must hold to become champion."""

    songs: int = Field(
        20_000,
        gt=1,
        description="Songs that models are judged on before the whole catalog is embedded: held-out ones and others",
    )
    tolerance: float = Field(0.0, ge=0, description="Loss of a metric that is accepted even beyond the noise")
    min_effective_rank: float = Field(4.0, gt=0, description="Below it the embeddings have collapsed")
    max_mean_cosine: float = Field(0.9, gt=0, le=1, description="Above it the embeddings have collapsed")
    max_drift: float = Field(
        0.5,
        gt=0,
        le=2,
        description="Mean cosine distance of songs to where the champion has them, after the best rotation; above it "
        "what others trained on embeddings breaks",
    )


class SparkConfig(Section):
    """The Spark session of the jobs.

    master and driver_memory are used when the flow starts the job; plain spark-submit takes its own flags.
    """

    master: str = Field("local[*]", description="Where Spark runs, such as local[4] or spark://HOST:7077")
    driver_memory: str = Field("2g", description="Memory of the driver's JVM, such as 2g")
    conf: dict[str, str] = Field({}, description="Further Spark settings by their own names")


class StepsConfig(Section):
    """How flows run their steps."""

    retries: int = Field(2, ge=0, description="Times that a step is tried again after a failure that can pass")
    retry_seconds: float = Field(30.0, ge=0, description="Wait before the first retry; it doubles with each")
    timeout_hours: float = Field(72.0, gt=0, description="A step that runs longer is ended and counts as failed")
    side_by_side: bool = Field(
        True,
        description="Whether steps of which neither reads the other run at once; no where one machine's memory is too "
        "small for Spark and training together",
    )
    backfill_days: int = Field(7, gt=0, description="Days of log that one job of a backfill counts")
    backfill_jobs: int = Field(2, gt=0, description="Jobs of a backfill that run at once")


class NightlyConfig(Section):
    """The scheduled fine-tune: stage 2 goes on from the champion."""

    epochs: int = Field(2, gt=0, description="Passes over the pairs, in place of stage2.epochs")


class ReportConfig(Section):
    """What the report shows beside the figures."""

    text_queries: list[str] = Field([], description="Searches shown with their top songs")
    previews: int = Field(80, ge=0, description="Songs that can be played in the report")


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
    report_card: ReportCardConfig = ReportCardConfig()
    gate: GateConfig = GateConfig()
    spark: SparkConfig = SparkConfig()
    steps: StepsConfig = StepsConfig()
    nightly: NightlyConfig = NightlyConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _check_batches(self) -> PipelineConfig:
        for stage in ("stage1", "stage2"):
            batch = getattr(self, stage).global_batch_size
            if not self.training.hostfile and batch % self.training.processes:
                raise ValueError(
                    f"{stage}.global_batch_size = {batch} is not a multiple of "
                    f"training.processes = {self.training.processes}; change one of them"
                )
        return self

    @model_validator(mode="after")
    def _check_parity(self) -> PipelineConfig:
        stages: dict[str, StageConfig] = {"stage1": self.stage1, "stage2": self.stage2}
        for stage, section in stages.items() if self.model.reference_parity else ():
            for name in _NOT_THE_AUTHORS:
                if getattr(section, name, 0):
                    raise ValueError(
                        f"{stage}.{name} = {getattr(section, name)} is not what the authors do; "
                        "leave it out, or set model.reference_parity to false"
                    )
        return self

    @model_validator(mode="after")
    def _check_shortest_audio(self) -> PipelineConfig:
        audio, frames = self.audio, min_frames()
        # Frames are centred: n samples give 1 + n // hop_length of them (htcl.audio.features.num_frames).
        seconds = (frames - 1) * audio.hop_length / audio.sample_rate
        if audio.min_seconds < seconds:
            raise ValueError(
                f"audio.min_seconds = {audio.min_seconds:g} lets in audio of less than {frames} frames, which the "
                f"audio encoder cannot read; set it to {math.ceil(100 * seconds) / 100} or more"
            )
        for name, stage in (("stage1", self.stage1), ("stage2", self.stage2)):
            if stage.crop_seconds is not None and stage.crop_seconds < audio.min_seconds:
                raise ValueError(
                    f"{name}.crop_seconds = {stage.crop_seconds:g} is less than audio.min_seconds = "
                    f"{audio.min_seconds:g}, the shortest song that is read; raise it"
                )
        return self


def fingerprint(value: Any, length: int = 16) -> str:
    """Hash any JSON-like value or section; equal content gives equal text on every machine."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    # File names need not be UTF-8; Python stands for the bytes that are not with surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
