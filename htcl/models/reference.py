"""Between the authors' published checkpoints and our Hugging Face folders."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from transformers import AutoConfig, AutoTokenizer

from htcl.config import CONV_STRIDES
from htcl.errors import HTCLError
from htcl.models.configuration_htcl import HTCLConfig
from htcl.models.modeling_htcl import HTCLModel
from htcl.models.processing_htcl import HTCLProcessor
from htcl.models.reference_card import reference_card
from htcl.models.reference_state import check_state, encoders, max_tokens, published_shapes, read_config, read_state

_TOKENIZER_WANTED = "give the folder or hub name of a BERT with its tokenizer files (tokenizer.json)"


def import_reference(
    checkpoint: Path,
    folder: Path,
    *,
    audio_heads: int = 12,
    text_heads: int = 12,
    tokenizer: str | Path | None = None,
) -> HTCLConfig:
    """Convert a published checkpoint into a folder for `from_pretrained`, with model card.

    Args:
        checkpoint: the authors' file, of stage 1 or stage 2.
        folder: does not exist yet, or is empty.
        audio_heads: attention heads of the audio encoder, which no weight tells.
        text_heads: attention heads of the text encoder, likewise.
        tokenizer: folder or hub name with the text encoder's tokenizer; without it the folder has no processor.

    Returns:
        The configuration, whose every other size is read from the weights.

    Raises:
        HTCLError: if the file is no such checkpoint, the tokenizer does not fit, or the folder is not free.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise HTCLError(f"{folder} is there already and not empty: choose another folder or delete it")
    state = read_state(checkpoint)
    config = read_config(state, checkpoint, audio_heads, text_heads)
    processor = None if tokenizer is None else _processor(tokenizer, config)
    with torch.device("meta"):  # the weights are all there, fresh ones would be made in vain
        model = HTCLModel(config)
    model.to_empty(device="cpu").load_state_dict(state)
    with _written_aside(folder) as aside:
        model.save_pretrained(aside)
        if processor is not None:
            processor.save_pretrained(aside)
        (aside / "README.md").write_text(reference_card(checkpoint, config, processor), encoding="utf-8")
    return config


def export_reference(folder: Path, checkpoint: Path) -> None:
    """Convert a model folder into a checkpoint of the authors' format; attention heads are not part of it.

    Args:
        folder: of `save_pretrained`, stage 1 or stage 2.
        checkpoint: does not exist yet.

    Raises:
        HTCLError: if the folder holds no HTCL model that the format can express, or the file is there already.
    """
    checkpoint = checkpoint.resolve()
    if checkpoint.exists():
        raise HTCLError(f"{checkpoint} is there already: choose another name or delete it")
    model = _load_model(folder)
    _check_expressible(model.config, folder)
    state = model.state_dict()
    shapes = published_shapes(model.config)
    published = check_state({name: state[name].reshape(shape) for name, shape in shapes.items()}, folder)
    with _written_aside(checkpoint) as aside, aside.open("wb") as file:
        torch.save(published, file)


def _load_model(folder: Path) -> HTCLModel:
    if not (folder / "config.json").is_file():  # else transformers would look for it on the hub
        raise HTCLError(f"{folder} is no model folder, it has no config.json: give one of HTCLModel.save_pretrained")
    try:
        config: Any = AutoConfig.from_pretrained(folder)
        ours = isinstance(config, HTCLConfig)
        loaded: Any = HTCLModel.from_pretrained(folder, output_loading_info=True) if ours else None
    except Exception as error:  # transformers and safetensors raise whatever they stumble over
        reason = " ".join(str(error).split())
        raise HTCLError(f"{folder} cannot be read as an HTCL model ({reason}): save or import it again") from error
    if loaded is None:
        raise HTCLError(f"{folder} holds a model of type {config.model_type}: give the folder of an HTCL model")
    model: HTCLModel
    model, report = loaded
    if wrong := sorted(report["missing_keys"] | report["unexpected_keys"]):
        raise HTCLError(
            f"the weights in {folder} are not those of its config.json ({len(wrong)} keys, such as {wrong[0]}): "
            "save or import the model again"
        )
    return model


def _check_expressible(config: HTCLConfig, folder: Path) -> None:
    """Refuse a setting that a reader of the published format takes for granted and would get wrong."""
    audio, text = encoders(config)
    published_audio, published_text = encoders(HTCLConfig())
    for name, found, expected in (
        ("text_pooling", config.text_pooling, HTCLConfig.text_pooling),
        ("audio_config.conv_strides", list(audio.conv_strides), list(CONV_STRIDES)),
        ("audio_config.layer_norm_eps", audio.layer_norm_eps, published_audio.layer_norm_eps),
        ("text_config.layer_norm_eps", text.layer_norm_eps, published_text.layer_norm_eps),
        ("text_config.hidden_act", text.hidden_act, published_text.hidden_act),
    ):
        if found != expected:
            raise HTCLError(
                f"{folder} has {name} {found}, the published format knows only {expected}: "
                "share the folder itself, HTCLModel.from_pretrained reads it"
            )


def _processor(tokenizer: str | Path, config: HTCLConfig) -> HTCLProcessor:
    """The processor of an imported model.

    Raises:
        HTCLError: if there is no tokenizer, or it has tokens that the model has no embedding for.
    """
    audio, text = encoders(config)
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer)
    except Exception as error:  # of a damaged folder transformers raises whatever it stumbles over
        raise HTCLError(f"no tokenizer can be read from {tokenizer}: {_TOKENIZER_WANTED}") from error
    # Of a BERT folder without tokenizer files transformers makes one that knows the special tokens only.
    if len(loaded) <= len(loaded.all_special_tokens):
        raise HTCLError(f"{tokenizer} has no vocabulary: {_TOKENIZER_WANTED}")
    size = max(loaded.get_vocab().values()) + 1
    if size > text.vocab_size:
        raise HTCLError(
            f"the tokenizer of {tokenizer} has {size} tokens, the checkpoint embeds {text.vocab_size}: "
            "give the tokenizer of the BERT that it was trained with"
        )
    return HTCLProcessor(loaded, audio, max_tokens=max_tokens(config))


@contextlib.contextmanager
def _written_aside(target: Path) -> Iterator[Path]:
    """A path to write to, which becomes the target when the block ends without an error."""
    aside = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        aside.mkdir(parents=True)
        yield aside / target.name
        (aside / target.name).rename(target)
    except OSError as error:
        raise HTCLError(
            f"cannot write {target} ({error.strerror or error}): free the place or choose another"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
