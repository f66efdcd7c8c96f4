"""Configuration of HTCL models: sizes of the two encoders, their heads and the log-mel input."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import BertConfig, PretrainedConfig

from htcl.config import CONV_KERNELS, CONV_STRIDES, min_frames


@strict
class HTCLAudioConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """Log-mel input and audio encoder. The defaults are those of the published checkpoints.

    Args:
        sample_rate: Hz.
        n_fft: samples of the Hann window (128 ms).
        hop_length: samples between two frames (96 ms).
        n_mels: mel bands of a frame.
        max_seconds: audio after this is not read.
        top_db: dynamic range that is kept, in dB.
        conv_filters: output channels of each convolution layer.
        conv_kernels: kernel of each convolution layer, in positions of the layer before.
        conv_strides: stride of each convolution layer.
        hidden_size: width of the Transformer.
        num_hidden_layers: Transformer layers.
        num_attention_heads: heads of a layer.
        intermediate_size: width of the feed-forward block.
        position_conv_kernel: kernel of the position convolution; odd, so that it is centred.
        position_conv_groups: groups of the position convolution.
        dropout: probability, in the Transformer and before it.
        layer_norm_eps: epsilon of every layer norm.
    """

    model_type = "htcl_audio"
    base_config_key = "audio_config"

    sample_rate: int = 16_000
    n_fft: int = 2048
    hop_length: int = 1536
    n_mels: int = 128
    max_seconds: float | int = 120.0
    top_db: float | int = 80.0
    conv_filters: list[int] | tuple[int, ...] = (512, 512, 512)
    conv_kernels: list[int] | tuple[int, ...] = CONV_KERNELS
    conv_strides: list[int] | tuple[int, ...] = CONV_STRIDES
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    position_conv_kernel: int = 31
    position_conv_groups: int = 16
    dropout: float | int = 0.1
    layer_norm_eps: float = 1e-5

    def validate_audio_sizes(self) -> None:
        """Refuse sizes that cannot be built.

        Raises:
            ValueError: naming the sizes that do not fit; from the constructor, which runs every validator, it
                comes as huggingface_hub's StrictDataclassClassValidationError.
        """
        if not len(self.conv_filters) == len(self.conv_kernels) == len(self.conv_strides):
            raise ValueError("conv_filters, conv_kernels and conv_strides must have one entry per layer")
        for name in ("num_attention_heads", "position_conv_groups"):
            if self.hidden_size % getattr(self, name):
                raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of {name} {getattr(self, name)}")
        if self.position_conv_kernel % 2 == 0:
            raise ValueError(f"position_conv_kernel {self.position_conv_kernel} must be odd")

    @property
    def min_frames(self) -> int:
        """Fewest frames that give one output position."""
        return min_frames(self.conv_kernels, self.conv_strides)


@strict
class HTCLConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """An HTCL model of one stage. The defaults are those of the published checkpoints.

    Args:
        audio_config: audio encoder, a `HTCLAudioConfig` or its dict.
        text_config: text encoder, a `BertConfig` or its dict.
        text_pooling: `pooler` (BERT's pooler output, as published) or `mean` over the real tokens.
        projection_sizes: layers of the audio head and of the text head, after the encoder's hidden size.
        fusion_sizes: layers of the fusion head, after the two concatenated embeddings.
        projection_dropout: probability, after each ReLU of a head.
        logit_scale_init: start of every temperature, a natural logarithm.
        stage: 1 (audio and text) or 2 (with fusion head and three temperatures).
        reference_parity: reproduce the authors' code, known defects included (padding takes part, no clamp).
    """

    model_type = "htcl"
    sub_configs_defaults = {  # noqa: RUF012
        "audio_config": HTCLAudioConfig,  # type: ignore[dict-item]
        "text_config": BertConfig,  # type: ignore[dict-item]
    }

    audio_config: dict | PretrainedConfig | None = None  # type: ignore[type-arg]
    text_config: dict | PretrainedConfig | None = None  # type: ignore[type-arg]
    text_pooling: Literal["pooler", "mean"] = "pooler"
    projection_sizes: list[int] | tuple[int, ...] = (384, 192, 100)
    fusion_sizes: list[int] | tuple[int, ...] = (200, 100, 100)
    projection_dropout: float | int = 0.1
    logit_scale_init: float | int = 2.6
    stage: Literal[1, 2] = 1
    reference_parity: bool = False
