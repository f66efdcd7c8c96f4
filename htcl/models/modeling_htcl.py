"""HTCLModel: audio and text encoders with their heads, the fusion head of stage 2, and the temperatures."""

import copy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from transformers import BertConfig, BertModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from htcl.models.audio_encoder import HTCLAudioModel, masked_mean
from htcl.models.configuration_htcl import HTCLAudioConfig, HTCLConfig


@dataclass
class HTCLOutput(ModelOutput):
    """Raw embeddings of a batch, each [batch, size], or None where the input was not given."""

    audio_embedding: Tensor | None = None
    text_embedding: Tensor | None = None
    fusion_embedding: Tensor | None = None


def projection_head(sizes: list[int], dropout: float) -> nn.Sequential:
    """Linear layers of the given sizes, with ReLU and dropout between them (published names: 0, 3, 6)."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class HTCLModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """One embedding per song, from its audio, its text or both.

    Embeddings are the raw outputs of the heads, as the paper defines them; the losses normalise them, and who
    compares them by hand should take the cosine. Parameter names are those of the published checkpoints.
    """

    config: HTCLConfig
    config_class = HTCLConfig
    base_model_prefix = "htcl"
    main_input_name = "input_features"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: HTCLConfig) -> None:
        super().__init__(config)
        audio, text = cast(HTCLAudioConfig, config.audio_config), cast(BertConfig, config.text_config)
        heads = list(config.projection_sizes)
        # With mean pooling BERT's pooler would get no gradient, which distributed training refuses.
        self.text_model = BertModel(text, add_pooling_layer=config.text_pooling == "pooler")
        self.audio_model = HTCLAudioModel(audio)
        self.audio_mlp = projection_head([audio.hidden_size, *heads], config.projection_dropout)
        self.text_mlp = projection_head([text.hidden_size, *heads], config.projection_dropout)
        if config.stage == 2:
            sizes = [2 * heads[-1], *config.fusion_sizes]
            self.fusion_mlp = projection_head(sizes, config.projection_dropout)
        for name in self.temperature_names:
            # Shape [1], because DeepSpeed cannot broadcast a parameter without dimensions.
            setattr(self, name, nn.Parameter(torch.full((1,), float(config.logit_scale_init))))
        self.register_load_state_dict_pre_hook(_reshape_temperatures)  # type: ignore[no-untyped-call]
        self.post_init()  # type: ignore[no-untyped-call]

    @property
    def temperature_names(self) -> tuple[str, ...]:
        """`tau`, or in stage 2 `tau_1` (audio-text), `tau_2` (audio-audio), `tau_3` (audio-fusion)."""
        return ("tau",) if self.config.stage == 1 else ("tau_1", "tau_2", "tau_3")

    @property
    def temperatures(self) -> tuple[nn.Parameter, ...]:
        """The logit scales, each [1], in the order of `temperature_names`."""
        return tuple(getattr(self, name) for name in self.temperature_names)

    def get_audio_features(self, input_features: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Embed audio (paper, audio encoder): the head over the mean of all positions, CLS included.

        Args:
            input_features: [batch, frames, n_mels], normalised log-mel.
            attention_mask: [batch, frames], nonzero where a frame is real. Ignored under reference parity.

        Returns:
            [batch, projection_sizes[-1]], raw.
        """
        mask = None if self.config.reference_parity else attention_mask
        embedding: Tensor = self.audio_mlp(self.audio_model(input_features, mask).pooler_output)
        return embedding

    def get_text_features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Embed text: the head over BERT's pooler output, or over the mean of its real tokens.

        Args:
            input_ids: [batch, tokens].
            attention_mask: [batch, tokens], nonzero where a token is real.
            token_type_ids: [batch, tokens].

        Returns:
            [batch, projection_sizes[-1]], raw.
        """
        pooled = self.pooled_text(input_ids, attention_mask, token_type_ids)
        embedding: Tensor = self.text_mlp(pooled)
        return embedding

    def pooled_text(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """What the text head reads, [batch, text hidden size]: constant while the text encoder is frozen."""
        output = self.text_model(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        if self.config.text_pooling == "mean":
            return masked_mean(output.last_hidden_state, attention_mask)
        pooled: Tensor = output.pooler_output
        return pooled

    def get_fusion_features(self, audio_embedding: Tensor, text_embedding: Tensor) -> Tensor:
        """Fuse the raw embeddings of the same songs, each [batch, size], to [batch, fusion_sizes[-1]], raw.

        Raises:
            ValueError: if the model is of stage 1.
        """
        if self.config.stage != 2:
            raise ValueError("a stage 1 model has no fusion head: build one with HTCLModel.for_stage2")
        embedding: Tensor = self.fusion_mlp(torch.cat([audio_embedding, text_embedding], dim=-1))
        return embedding

    def forward(
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        input_ids: Tensor | None = None,
        text_attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> HTCLOutput:
        """Embed what is given: audio, text, and in stage 2, where both are, their fusion.

        Args:
            input_features: [batch, frames, n_mels].
            attention_mask: [batch, frames], of the audio.
            input_ids: [batch, tokens].
            text_attention_mask: [batch, tokens].
            token_type_ids: [batch, tokens].
        """
        audio = text = fusion = None
        if input_features is not None:
            audio = self.get_audio_features(input_features, attention_mask)
        if input_ids is not None:
            text = self.get_text_features(input_ids, text_attention_mask, token_type_ids)
        if self.config.stage == 2 and audio is not None and text is not None:
            fusion = self.get_fusion_features(audio, text)
        return HTCLOutput(audio_embedding=audio, text_embedding=text, fusion_embedding=fusion)

    @classmethod
    def from_text_encoder(cls, config: HTCLConfig, text_encoder: str | Path) -> "HTCLModel":
        """Build a stage 1 model whose text encoder is pretrained and whose rest is fresh.

        Args:
            config: sizes; its `text_config` is replaced by that of the text encoder.
            text_encoder: folder (or hub name) of a BERT in safetensors.

        Raises:
            ValueError: if weights are missing, such as those of the pooler when pooling is `pooler`.
        """
        loaded: Any = BertModel.from_pretrained(
            text_encoder,
            add_pooling_layer=config.text_pooling == "pooler",
            use_safetensors=True,
            output_loading_info=True,
        )
        bert, report = loaded
        if report["missing_keys"]:
            raise ValueError(
                f"text encoder {text_encoder} lacks {sorted(report['missing_keys'])}: give a complete BERT, "
                "or set text_pooling to mean if only its pooler is missing"
            )
        config = copy.deepcopy(config)
        config.text_config = bert.config
        # The path of this machine has no place in the config.json that is published.
        bert.config.name_or_path = ""
        model = cls(config)
        model.text_model.load_state_dict(bert.state_dict())
        return model

    @classmethod
    def for_stage2(cls, stage1: "HTCLModel") -> "HTCLModel":
        """Build a stage 2 model that goes on from a stage 1 model, which stays as it is.

        Encoders and heads are kept and `tau` goes on as `tau_1`; fusion head, `tau_2` and `tau_3` are fresh.
        Under reference parity only the encoders are kept, as in the authors' code.

        Raises:
            ValueError: if the model is not of stage 1.
        """
        if stage1.config.stage != 1:
            raise ValueError(f"stage 2 starts from a stage 1 model, this one is of stage {stage1.config.stage}")
        config = copy.deepcopy(stage1.config)
        config.stage = 2
        model = cls(config)
        model.audio_model.load_state_dict(stage1.audio_model.state_dict())
        model.text_model.load_state_dict(stage1.text_model.state_dict())
        if not config.reference_parity:
            model.audio_mlp.load_state_dict(stage1.audio_mlp.state_dict())
            model.text_mlp.load_state_dict(stage1.text_mlp.state_dict())
            with torch.no_grad():
                model.temperatures[0].copy_(stage1.temperatures[0])
        return model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise as torch does by itself; BertModel initialises its own modules."""
        if isinstance(module, HTCLModel):
            for temperature in module.temperatures:
                init.constant_(temperature, float(self.config.logit_scale_init))
        elif isinstance(module, HTCLAudioModel):
            init.normal_(module.cls_token, std=0.02)
        elif isinstance(module, nn.Conv1d) and is_parametrized(module):
            _init_position_conv(module)
        elif isinstance(module, nn.MultiheadAttention):
            module._reset_parameters()
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.LayerNorm):
            module.reset_parameters()


def _init_position_conv(conv: nn.Conv1d) -> None:
    """Start as wav2vec 2.0's position convolution: normal directions, their norm as magnitude, no bias."""
    parametrizations: Any = conv.parametrizations
    magnitude, direction = parametrizations.weight.original0, parametrizations.weight.original1
    init.normal_(direction, std=2 / (conv.kernel_size[0] * conv.in_channels) ** 0.5)
    init.copy_(magnitude, direction.norm(dim=(0, 1), keepdim=True))
    init.zeros_(cast(Tensor, conv.bias))


def _reshape_temperatures(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Give the temperatures of a published checkpoint, which have shape [], the shape [1]."""
    for name in cast(HTCLModel, module).temperature_names:
        if prefix + name in state_dict:
            state_dict[prefix + name] = state_dict[prefix + name].reshape(1)
