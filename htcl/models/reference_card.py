"""The model card of a folder made from a published checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from transformers import PretrainedConfig

from htcl.config import ModelConfig
from htcl.models.card import ABOUT, FRONT_MATTER, USAGE
from htcl.models.configuration_htcl import HTCLConfig
from htcl.models.processing_htcl import HTCLProcessor
from htcl.models.reference_state import encoders, max_tokens

_CARD = """{front_matter}

# HTCL stage {stage}, imported from {file}

{about}: a checkpoint of the authors' format, converted by `htcl import-reference`. Every weight is as it was.

| what | value |
|---|---|
{rows}
{hint}
{usage}

Padding takes no part here. The authors' code lets it: for the numbers that theirs gives, load the model with
`reference_parity=True` and set `processor.reference_parity = True`.
"""

_NO_PROCESSOR = """
The checkpoint carries no tokenizer, so the folder has no processor yet. Add it once, with the tokenizer of the text
encoder ({text_encoder} in the paper):

```python
from htcl.models import HTCLConfig, HTCLProcessor
from transformers import AutoTokenizer

tokenizer, config = AutoTokenizer.from_pretrained(TEXT_ENCODER), HTCLConfig.from_pretrained(FOLDER)
HTCLProcessor(tokenizer, config.audio_config, max_tokens={max_tokens}).save_pretrained(FOLDER)
```
"""


def reference_card(checkpoint: Path, config: HTCLConfig, processor: HTCLProcessor | None) -> str:
    """README.md of an imported folder: what the model was made from, its sizes, how to use it."""
    audio, text = encoders(config)
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    values = {
        "stage": config.stage,
        "imported from": checkpoint.name,
        "sha256 of the file": digest,
        "mel bands": audio.n_mels,
        "convolutions: filters": _listed(audio.conv_filters),
        "convolutions: kernels, strides": f"{_listed(audio.conv_kernels)}, {_listed(audio.conv_strides)}",
        "position convolution: kernel, groups": f"{audio.position_conv_kernel}, {audio.position_conv_groups}",
        "audio Transformer": _transformer(audio),
        "text encoder (BERT)": _transformer(text),
        "text encoder: tokens, positions, token types": (
            f"{text.vocab_size}, {text.max_position_embeddings}, {text.type_vocab_size}"
        ),
        "tokenizer": "none" if processor is None else f"{len(processor.tokenizer)} tokens",
        "audio and text head": _listed([*config.projection_sizes]),
    }
    if config.stage == 2:
        values["fusion head"] = _listed([2 * config.projection_sizes[-1], *config.fusion_sizes])
    hint = _NO_PROCESSOR.format(text_encoder=ModelConfig().text_encoder, max_tokens=max_tokens(config))
    return _CARD.format(
        front_matter=FRONT_MATTER,
        about=ABOUT,
        usage=USAGE,
        stage=config.stage,
        file=checkpoint.name,
        rows="\n".join(f"| {name} | {value} |" for name, value in values.items()),
        hint="" if processor is not None else hint,
    )


def _transformer(config: PretrainedConfig) -> str:
    return (
        f"{config.num_hidden_layers} layers, width {config.hidden_size}, feed-forward {config.intermediate_size}, "
        f"{config.num_attention_heads} heads (given at the import, not in the file)"
    )


def _listed(sizes: Iterable[int]) -> str:
    return "-".join(str(size) for size in sizes)
