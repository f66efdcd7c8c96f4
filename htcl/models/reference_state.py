"""State dicts of the authors' published checkpoints: read, checked, and the sizes that their weights tell."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor
from transformers import BertConfig

from htcl.config import CONV_STRIDES, ModelConfig
from htcl.errors import HTCLError
from htcl.models.configuration_htcl import HTCLAudioConfig, HTCLConfig
from htcl.models.modeling_htcl import HTCLModel

WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts put the state dict, beside epoch and optimizer."""

DDP_PREFIX = "module."
"""What DistributedDataParallel puts before every name."""

BUFFERS = ("text_model.embeddings.position_ids", "text_model.embeddings.token_type_ids")
"""Constants that older versions of transformers kept in BERT's state dict; today's make them anew."""

SECTIONS = ("tau", "audio_model.", "text_model.", "audio_mlp.", "text_mlp.", "fusion_mlp.")
"""Starts of the published names, in the order of the published files."""

_CONV = r"audio_model\.feature_extractor\.layers\."
_AUDIO_LAYER = r"audio_model\.transformer_encoder\.layers\."
_TEXT_LAYER = r"text_model\.encoder\.layer\."
_POSITION_CONV = "audio_model.pos_conv_embed.conv.parametrizations.weight.original1"

Shape = tuple[int, ...]


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a published checkpoint: every tensor of one stage under its published name, and nothing else.

    Args:
        path: a file of torch.save, of which only tensors are read; nothing in it is run.

    Raises:
        HTCLError: if the file is none, or holds another state than that of an HTCL model (see `check_state`).
    """
    loaded = _load(path)
    if not isinstance(loaded, Mapping):
        raise _no_checkpoint(path)
    found = [loaded[name] for name in WRAPPERS if isinstance(loaded.get(name), Mapping)]
    if len(found) > 1:
        raise HTCLError(f"{path} holds both {' and '.join(WRAPPERS)}: save the one that is meant by itself")
    state = _without_prefix(dict(found[0] if found else loaded), path)
    state = {name: value for name, value in state.items() if name not in BUFFERS}
    return check_state(state, path)


def check_state(state: Mapping[str, object], source: Path) -> dict[str, Tensor]:
    """Hold a state dict against the names of its stage; its values must be finite float32.

    Args:
        state: name to value.
        source: named in the error.

    Returns:
        The state, in its own order.

    Raises:
        HTCLError: naming the first keys that are missing, unexpected or no such tensors.
    """
    stage = _stage(state, source)
    # A model of the same depth and of width 1 knows the names and how many dimensions each weight has.
    narrow = published_shapes(_sizes(dict.fromkeys(state, (1, 1, 1)), source))
    if missing := [name for name in narrow if name not in state]:
        raise HTCLError(
            f"{source} lacks {len(missing)} of the {len(narrow)} keys of a stage {stage} checkpoint "
            f"({_first(missing)}): save the whole state_dict() of the model"
        )
    if unexpected := [name for name in state if name not in narrow]:
        raise HTCLError(
            f"{source} has keys that no stage {stage} checkpoint has, {len(unexpected)} in all "
            f"({_first(unexpected)}): save the state_dict() of an HTCL model alone"
        )
    return {name: _checked(name, value, len(narrow[name]), source) for name, value in state.items()}


def read_config(state: Mapping[str, Tensor], source: Path, audio_heads: int, text_heads: int) -> HTCLConfig:
    """Read every size of a model from its weights.

    Args:
        state: as `read_state` returns it.
        source: named in the error.
        audio_heads: attention heads of the audio encoder, which no weight tells.
        text_heads: attention heads of the text encoder, likewise.

    Raises:
        HTCLError: if a shape contradicts the others, or a width is no multiple of its heads.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    config = _sizes(shapes, source)
    audio, text = encoders(config)
    for option, part, heads in (("--audio-heads", audio, audio_heads), ("--text-heads", text, text_heads)):
        if heads < 1 or part.hidden_size % heads:
            raise HTCLError(
                f"{source} has a width of {part.hidden_size}, no multiple of {heads} attention heads: "
                f"give {option} the number that the model was trained with"
            )
        part.num_attention_heads = heads
    for name, expected in published_shapes(config).items():
        if shapes[name] != expected:
            raise _wrong_shape(name, shapes[name], str(list(expected)), source)
    return config


def encoders(config: HTCLConfig) -> tuple[HTCLAudioConfig, BertConfig]:
    """The configurations of the audio encoder and of the text encoder."""
    return cast(HTCLAudioConfig, config.audio_config), cast(BertConfig, config.text_config)


def max_tokens(config: HTCLConfig) -> int:
    """Tokens after which a text is cut: as everywhere, unless BERT has fewer positions."""
    return min(ModelConfig().text_max_tokens, encoders(config)[1].max_position_embeddings)


def published_shapes(config: HTCLConfig) -> dict[str, Shape]:
    """Names and shapes of a published checkpoint of such a model, in its order; temperatures have shape []."""
    with torch.device("meta"):
        model = HTCLModel(config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    shapes |= dict.fromkeys(model.temperature_names, ())
    return {name: shapes[name] for start in SECTIONS for name in shapes if name.startswith(start)}


def _load(path: Path) -> object:
    try:
        file = path.open("rb")
    except OSError as error:
        raise HTCLError(f"cannot read {path} ({error.strerror or error}): check the path") from None
    try:
        with file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise HTCLError(
            f"{path} holds more than tensors, or is no file of torch.save; nothing in it was run: "
            "save the model's state_dict() alone where the file is trusted"
        ) from error
    except Exception as error:  # of a damaged file torch's readers raise whatever they stumble over
        raise HTCLError(
            f"{path} is damaged or no file of torch.save ({type(error).__name__}): copy or download it again"
        ) from error


def _without_prefix(state: dict[str, object], path: Path) -> dict[str, object]:
    if not all(isinstance(name, str) for name in state):
        raise _no_checkpoint(path)
    prefixed = [name for name in state if name.startswith(DDP_PREFIX)]
    if not prefixed:
        return state
    if len(prefixed) < len(state):
        other = next(name for name in state if not name.startswith(DDP_PREFIX))
        raise HTCLError(
            f"{path} has keys with the prefix {DDP_PREFIX} ({prefixed[0]}) and without ({other}): "
            "save the state_dict() of one model"
        )
    return {name.removeprefix(DDP_PREFIX): value for name, value in state.items()}


def _stage(names: Iterable[str], source: Path) -> Literal[1, 2]:
    names = list(names)
    if not any(name.startswith(("audio_model.", "text_model.")) for name in names):
        raise _no_checkpoint(source)
    later = [name for name in names if name.startswith(("tau_", "fusion_mlp."))]
    if "tau" in names and later:
        raise HTCLError(
            f"{source} mixes the stages, tau of stage 1 with {_first(later)} of stage 2: save the state_dict() of one"
        )
    return 2 if later else 1


def _checked(name: str, value: object, dimensions: int, source: Path) -> Tensor:
    """The value, if it is a finite dense float32 tensor with so many dimensions, none of them empty."""
    if not isinstance(value, Tensor):
        raise HTCLError(f"{name} in {source} is a {type(value).__name__}, needs a tensor: save the state_dict() alone")
    if (value.dtype, value.layout, value.device.type) != (torch.float32, torch.strided, "cpu"):
        raise HTCLError(
            f"{name} in {source} is {value.dtype} ({value.layout}, {value.device}), needs to be torch.float32 as "
            "published: convert the model with .float() and save it again"
        )
    if value.dim() != dimensions or 0 in value.shape:
        raise _wrong_shape(name, tuple(value.shape), f"{dimensions} dimensions, none of them 0", source)
    if not value.isfinite().all():
        raise HTCLError(f"{name} in {source} has NaN or infinite values: take a checkpoint from before it diverged")
    return value


def _sizes(shapes: Mapping[str, Shape], source: Path) -> HTCLConfig:
    """The configuration that the shapes tell, with one attention head; `check_state` also calls it with all ones."""
    stage = _stage(shapes, source)
    head = _linear_layers(shapes, "audio_mlp")
    projection = [_size(shapes, rf"(audio|text)_mlp\.{index}\.\w+", 0) for index in head]
    # Stage 1 has no fusion head yet; the one of stage 2 then has the published proportions.
    fusion = [2 * projection[-1], projection[-1], projection[-1]]
    if stage == 2:
        fusion = [_size(shapes, rf"fusion_mlp\.{i}\.\w+", 0) for i in _linear_layers(shapes, "fusion_mlp")]
    return HTCLConfig(
        audio_config=_audio_sizes(shapes, source),
        text_config=_text_sizes(shapes),
        projection_sizes=projection,
        fusion_sizes=fusion,
        stage=stage,
    )


def _audio_sizes(shapes: Mapping[str, Shape], source: Path) -> HTCLAudioConfig:
    layers = range(len(CONV_STRIDES))
    hidden = _size(shapes, rf"audio_model\.layer_norm\.\w+|{_AUDIO_LAYER}\d+\.norm\d\.\w+", 0)
    per_group = _size(shapes, re.escape(_POSITION_CONV), 1)
    kernel = _size(shapes, r"audio_model\.pos_conv_embed\.conv\.parametrizations\.weight\.original\d", 2)
    if hidden % per_group or kernel % 2 == 0:
        expected = f"[{hidden}, a divisor of {hidden}, an odd number]"
        raise _wrong_shape(_POSITION_CONV, shapes[_POSITION_CONV], expected, source)
    return HTCLAudioConfig(
        n_mels=_size(shapes, rf"{_CONV}0\.1\.weight", 1),
        conv_filters=[_size(shapes, rf"{_CONV}{layer}\.(1|3)\.\w+", 0) for layer in layers],
        conv_kernels=[_size(shapes, rf"{_CONV}{layer}\.1\.weight", 2) for layer in layers],
        conv_strides=CONV_STRIDES,
        hidden_size=hidden,
        num_hidden_layers=len(_indices(shapes, _AUDIO_LAYER)),
        num_attention_heads=1,
        intermediate_size=_size(shapes, rf"{_AUDIO_LAYER}\d+\.linear1\.\w+", 0),
        position_conv_kernel=kernel,
        position_conv_groups=hidden // per_group,
    )


def _text_sizes(shapes: Mapping[str, Shape]) -> BertConfig:
    embeddings = r"text_model\.embeddings\."
    return BertConfig(
        vocab_size=_size(shapes, rf"{embeddings}word_embeddings\.weight", 0),
        hidden_size=_size(shapes, rf"{embeddings}LayerNorm\.\w+|{_TEXT_LAYER}.*LayerNorm\.\w+", 0),
        num_hidden_layers=len(_indices(shapes, _TEXT_LAYER)),
        num_attention_heads=1,
        intermediate_size=_size(shapes, rf"{_TEXT_LAYER}\d+\.intermediate\.dense\.\w+", 0),
        max_position_embeddings=_size(shapes, rf"{embeddings}position_embeddings\.weight", 0),
        type_vocab_size=_size(shapes, rf"{embeddings}token_type_embeddings\.weight", 0),
        hidden_act="gelu",
    )


def _size(shapes: Mapping[str, Shape], pattern: str, axis: int) -> int:
    """The size on which most of the weights that the pattern names agree, so that one wrong weight is found.

    1 where the pattern names none: then it is a missing key's, and names are still being looked for.
    """
    found = Counter(shape[axis] for name, shape in shapes.items() if re.fullmatch(pattern, name))
    return found.most_common(1)[0][0] if found else 1


def _indices(names: Iterable[str], start: str) -> set[str]:
    """The numbers that follow `start` in the names, such as those of a stack's layers."""
    return {match[1] for name in names if (match := re.match(rf"{start}(\d+)\.", name))}


def _linear_layers(names: Iterable[str], head: str) -> range:
    """Positions of a head's linear layers: 0, 3, 6, as ReLU and dropout lie between them."""
    return range(0, 3 * max(1, len(_indices(names, rf"{head}\."))), 3)


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _no_checkpoint(source: Path) -> HTCLError:
    return HTCLError(
        f"{source} is no HTCL checkpoint, it has no keys audio_model.* and text_model.*: "
        "give the state_dict() of stage 1 or stage 2"
    )


def _wrong_shape(name: str, found: Shape, expected: str, source: Path) -> HTCLError:
    return HTCLError(
        f"{name} in {source} has shape {list(found)}, but with the other weights it should be {expected}: "
        "save the state_dict() of one model"
    )
