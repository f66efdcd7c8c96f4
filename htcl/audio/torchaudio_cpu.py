"""Import torchaudio, also beside a CPU build of torch. All of htcl takes torchaudio from here.

The torchaudio wheels link CUDA in their compiled extension and fail to import without it. The transforms are
plain torch, so beside a CPU torch an empty extension stands in for the compiled one. Lost are rnnt_loss and
forced_align.
"""

import sys
from types import ModuleType
from typing import Any

import torch


def _empty_extension() -> ModuleType:
    def fail_if_no_align(function: Any) -> Any:
        return function

    extension = ModuleType("torchaudio._extension")
    vars(extension).update(
        __path__=[],
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=fail_if_no_align,
    )
    return extension


if torch.version.cuda is None:
    sys.modules.setdefault("torchaudio._extension", _empty_extension())

import torchaudio  # noqa: E402

__all__ = ["torchaudio"]
