"""The audio encoder: log-mel frames through convolutions and a post-norm Transformer to hidden states."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling

from htcl.models.configuration_htcl import HTCLAudioConfig


class Transpose(nn.Module):
    """Swap positions and channels: [batch, m, n] to [batch, n, m]."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return a transposed view."""
        return hidden_states.transpose(1, 2)


class ConvFeatureExtractor(nn.Module):
    """Convolutions without padding, each followed by a layer norm over channels and a GELU."""

    def __init__(self, config: HTCLAudioConfig) -> None:
        super().__init__()
        self.kernels = tuple(config.conv_kernels)
        self.strides = tuple(config.conv_strides)
        inputs = (config.n_mels, *config.conv_filters[:-1])
        # The published names count the transposes: the convolution is 1, the layer norm 3.
        self.layers = nn.ModuleList(
            nn.Sequential(
                Transpose(),
                nn.Conv1d(channels, filters, kernel, stride, bias=False),
                Transpose(),
                nn.LayerNorm(filters, eps=config.layer_norm_eps),
                nn.GELU(),
            )
            for channels, filters, kernel, stride in zip(
                inputs, config.conv_filters, self.kernels, self.strides, strict=True
            )
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Map [batch, frames, n_mels] to [batch, positions, filters]."""
        for layer in self.layers:
            frames = layer(frames)
        return frames

    def position_mask(self, frame_mask: Tensor) -> Tensor:
        """Map bool [batch, frames] to [batch, positions], True where the whole receptive field is real."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            frame_mask = frame_mask.unfold(1, kernel, stride).all(dim=-1)
        return frame_mask


class FeatureProjection(nn.Module):
    """Layer norm, linear map to the Transformer's width, dropout."""

    def __init__(self, config: HTCLAudioConfig) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_filters[-1], eps=config.layer_norm_eps)
        self.projection = nn.Linear(config.conv_filters[-1], config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Map [batch, positions, filters] to [batch, positions, hidden_size]."""
        projected: Tensor = self.dropout(self.projection(self.layer_norm(features)))
        return projected


class PositionalConvEmbedding(nn.Module):
    """Relative positions by a grouped, weight-normalised convolution, then layer norm and GELU."""

    def __init__(self, config: HTCLAudioConfig) -> None:
        super().__init__()
        conv = nn.Conv1d(
            config.hidden_size,
            config.hidden_size,
            config.position_conv_kernel,
            padding=config.position_conv_kernel // 2,
            groups=config.position_conv_groups,
        )
        self.conv = weight_norm(conv, dim=2)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.activation = nn.GELU()

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return what is to be added to [batch, positions, hidden_size]."""
        positions = self.conv(hidden_states.transpose(1, 2)).transpose(1, 2)
        embedding: Tensor = self.activation(self.layer_norm(positions))
        return embedding


class HTCLAudioLayer(GradientCheckpointingLayer, nn.TransformerEncoderLayer):  # type: ignore[no-untyped-call]
    """One post-norm Transformer layer whose activations can be recomputed."""


class HTCLAudioModel(nn.Module):
    """Log-mel frames to hidden states, with a CLS position in front, and their mean."""

    def __init__(self, config: HTCLAudioConfig) -> None:
        super().__init__()
        self.min_frames = config.min_frames
        self.feature_extractor = ConvFeatureExtractor(config)
        self.feature_projection = FeatureProjection(config)
        self.pos_conv_embed = PositionalConvEmbedding(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        layer = HTCLAudioLayer(
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            config.dropout,
            activation="gelu",
            layer_norm_eps=config.layer_norm_eps,
            batch_first=True,
        )
        # Nested tensors would cut the output to the longest song and so lose positions.
        self.transformer_encoder = nn.TransformerEncoder(layer, config.num_hidden_layers, enable_nested_tensor=False)

    def forward(self, input_features: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutputWithPooling:
        """Encode a batch of songs.

        With a mask, padded frames reach no real position: neither by a receptive field, nor by the position
        convolution, nor by attention, nor by the mean. A song shorter than `min_frames` keeps only its CLS
        position.

        Args:
            input_features: [batch, frames, n_mels], normalised log-mel.
            attention_mask: [batch, frames], nonzero where a frame is real; None when all are.

        Returns:
            `last_hidden_state` [batch, 1 + positions, hidden_size], CLS first, and `pooler_output`
            [batch, hidden_size], the mean over all real positions, CLS included.

        Raises:
            ValueError: if there are fewer frames than one output position needs.
        """
        if input_features.shape[1] < self.min_frames:
            raise ValueError(
                f"input_features has {input_features.shape[1]} frames, needs {self.min_frames}: "
                "leave out audio this short"
            )
        hidden_states, mask = self._embed(input_features, attention_mask)
        padding = None if mask is None else ~mask
        hidden_states = self.transformer_encoder(hidden_states, src_key_padding_mask=padding)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden_states, pooler_output=masked_mean(hidden_states, mask)
        )

    def _embed(self, input_features: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Everything before the Transformer: [batch, 1 + positions, hidden_size] and its bool mask."""
        mask = None
        if attention_mask is not None:
            frame_mask = attention_mask.bool()
            # Zeroed first, so that not even a NaN in the padding reaches a gradient.
            input_features = input_features.masked_fill(~frame_mask[..., None], 0.0)
            mask = self.feature_extractor.position_mask(frame_mask)
        hidden_states = self.feature_projection(self.feature_extractor(input_features))
        if mask is not None:
            hidden_states = hidden_states.masked_fill(~mask[..., None], 0.0)
            mask = nn.functional.pad(mask, (1, 0), value=True)
        hidden_states = hidden_states + self.pos_conv_embed(hidden_states)
        hidden_states = self.dropout(self.layer_norm(hidden_states))
        cls = self.cls_token.expand(len(hidden_states), -1, -1)
        return torch.cat([cls, hidden_states], dim=1), mask


def masked_mean(hidden_states: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over positions: [batch, positions, size] to [batch, size].

    Args:
        hidden_states: [batch, positions, size].
        mask: [batch, positions], nonzero where a position counts; None when all do.
    """
    if mask is None:
        return hidden_states.mean(dim=1)
    weights = mask.to(hidden_states.dtype)[..., None]
    return (hidden_states * weights).sum(dim=1) / weights.sum(dim=1)
