"""A model that nothing has trained yet, as the configuration describes it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from htcl.config import ModelConfig, PipelineConfig
from htcl.errors import HTCLError
from htcl.models import HTCLAudioConfig, HTCLConfig, HTCLModel, HTCLProcessor

PACKAGE_PREFIX = "package:"


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
