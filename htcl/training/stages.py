"""The two stages: how each builds its model, its parameter groups and its loss."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from htcl.config import ModelConfig, PipelineConfig, StageConfig
from htcl.errors import HTCLError
from htcl.models import HTCLAudioConfig, HTCLConfig, HTCLModel, HTCLProcessor
from htcl.training.losses import stage1_loss, stage2_loss

PACKAGE_PREFIX = "package:"
FROZEN_TEXTS = 250_000
"""Songs whose frozen text output a rank keeps: 400 MB at 384 numbers each."""


def text_encoder_folder(name: str) -> str:
    """Resolve `model.text_encoder`: `package:NAME/FOLDER` to a path; paths and hub names stay.

    Raises:
        HTCLError: when the package is not installed.
    """
    if not name.startswith(PACKAGE_PREFIX):
        return name
    package, _, folder = name.removeprefix(PACKAGE_PREFIX).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise HTCLError(f"model.text_encoder: the package {package} is not installed; make setup installs the demo's")
    return str(Path(spec.submodule_search_locations[0]) / folder)


def new_stage1(config: PipelineConfig) -> tuple[HTCLModel, HTCLProcessor]:
    """A stage-1 model with a pre-trained text encoder and everything else fresh.

    Raises:
        HTCLError: sizes that cannot be built, or a text encoder that cannot be loaded.
    """
    sizes = config.model
    folder = text_encoder_folder(sizes.text_encoder)
    try:
        model_config = _model_config(sizes, config)
    except StrictDataclassError as error:
        reason = str(error).splitlines()[-1].strip().removeprefix("ValueError: ")
        raise HTCLError(f"model: {reason}") from None
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        model = HTCLModel.from_text_encoder(model_config, folder)
    except (OSError, ValueError) as error:
        raise HTCLError(
            f"model.text_encoder: {sizes.text_encoder} cannot be loaded ({str(error).splitlines()[0]}); "
            "give the folder of a BERT in safetensors"
        ) from None
    processor = HTCLProcessor(
        tokenizer,
        model.config.audio_config,  # type: ignore[arg-type]
        max_tokens=sizes.text_max_tokens,
        text_fields=sizes.text_fields,
        reference_parity=sizes.reference_parity,
    )
    return model, processor


def load_model(folder: Path) -> tuple[HTCLModel, HTCLProcessor]:
    """A published model of either stage, with its processor."""
    return HTCLModel.from_pretrained(folder), HTCLProcessor.from_pretrained(folder)


def _model_config(sizes: ModelConfig, config: PipelineConfig) -> HTCLConfig:
    audio = HTCLAudioConfig(
        sample_rate=config.audio.sample_rate,
        n_fft=config.audio.n_fft,
        hop_length=config.audio.hop_length,
        n_mels=config.audio.n_mels,
        max_seconds=config.audio.max_seconds,
        top_db=config.audio.top_db,
        conv_filters=sizes.conv_filters,
        hidden_size=sizes.hidden_size,
        num_hidden_layers=sizes.num_hidden_layers,
        num_attention_heads=sizes.num_attention_heads,
        intermediate_size=sizes.intermediate_size,
        dropout=config.stage1.dropout,
    )
    return HTCLConfig(
        audio_config=audio,
        text_pooling=sizes.text_pooling,
        projection_sizes=sizes.projection_sizes,
        fusion_sizes=sizes.fusion_sizes,
        projection_dropout=config.stage1.dropout,
        reference_parity=sizes.reference_parity,
    )


class StageModule(nn.Module):
    """A model and its stage's loss as one forward, as DeepSpeed wants it.

    Args:
        model: of either stage, with float32 weights.
        bf16: compute the embeddings in bfloat16 where torch's autocast holds that to be safe; weights, gradients
            and the loss stay float32.
    """

    def __init__(self, model: HTCLModel, bf16: bool = False) -> None:
        super().__init__()
        self.model, self._bf16 = model, bf16
        self._frozen_text: dict[int, Tensor] = {}

    def forward(self, inputs: dict[str, Tensor], songs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of this rank's rows, and its terms, each [] float32.

        Args:
            inputs: model inputs of the songs [rows] (stage 1) or of anchors, then positives [2 x rows].
            songs: index rows, int64 [rows, 1 or 2].
        """
        model = self.model
        parity = bool(model.config.reference_parity)
        with torch.autocast(songs.device.type, torch.bfloat16, enabled=self._bf16):
            audio = model.get_audio_features(inputs["input_features"], inputs["attention_mask"])
            text = model.text_mlp(self._pooled_text(inputs, songs.T.flatten()))
            fusion = model.get_fusion_features(audio, text) if model.config.stage == 2 else None
        if fusion is None:
            return stage1_loss(audio, text, model.temperatures[0], clamp=not parity)
        first, second, third = model.temperatures
        ids = None if parity else (songs[:, 0], songs[:, 1])
        return stage2_loss(
            _halves(audio),
            _halves(text),
            _halves(fusion),
            (first, second, third),
            song_ids=ids,
            clamp=not parity,
        )

    def _pooled_text(self, inputs: dict[str, Tensor], rows: Tensor) -> Tensor:
        """Output of the text encoder; a frozen one is asked only once for a song."""
        text = (inputs["input_ids"], inputs["text_attention_mask"], inputs.get("token_type_ids"))
        if any(parameter.requires_grad for parameter in self.model.text_model.parameters()):
            return self.model.pooled_text(*text)
        known = self._frozen_text
        new = torch.tensor([row not in known for row in rows.tolist()])
        if new.any():
            self.model.text_model.train(False)  # a constant must not depend on dropout
            with torch.no_grad():
                found = self.model.pooled_text(*(None if part is None else part[new] for part in text))  # type: ignore[arg-type]
            fresh = dict(zip(rows[new].tolist(), found, strict=True))
        else:
            fresh = {}
        pooled = torch.stack([known[row] if row in known else fresh[row] for row in rows.tolist()])
        if len(known) < FROZEN_TEXTS:
            known.update(fresh)
        return pooled


def _halves(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Anchors and positives of [2 x rows, size]."""
    first, second = rows.chunk(2)
    return first, second


def parameter_groups(model: HTCLModel, stage: StageConfig) -> list[dict[str, Any]]:
    """Parameters with their learning rates (paper: encoders and heads differ); rate 0 freezes.

    Returns:
        Groups for the optimizer, named text_encoder, audio_encoder, heads.
    """
    rates = {
        "text_encoder": stage.text_encoder_lr,
        "audio_encoder": stage.audio_encoder_lr,
        "heads": stage.head_lr,
    }
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
    for name, parameter in model.named_parameters():
        encoder = {"text_model": "text_encoder", "audio_model": "audio_encoder"}.get(name.split(".")[0], "heads")
        parameter.requires_grad_(rates[encoder] > 0)
        if rates[encoder] > 0:
            groups[encoder].append(parameter)
    return [{"params": found, "lr": rates[name], "name": name} for name, found in groups.items() if found]


def set_dropout(model: HTCLModel, dropout: float) -> None:
    """Give audio encoder and heads the dropout of the stage that begins; the text encoder keeps its own."""
    model.config.audio_config.dropout = model.config.projection_dropout = dropout  # type: ignore[union-attr]
    for name, part in model.named_children():
        for module in part.modules() if name != "text_model" else ():
            if isinstance(module, nn.Dropout):
                module.p = dropout
            elif isinstance(module, nn.MultiheadAttention):
                module.dropout = dropout


def logit_scales(model: HTCLModel) -> dict[str, float]:
    """The temperatures by name, natural logarithms."""
    with torch.no_grad():
        return {n: float(t) for n, t in zip(model.temperature_names, model.temperatures, strict=True)}
