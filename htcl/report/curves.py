"""The losses of a stage out of the training log beside its model."""

from __future__ import annotations

import json
from pathlib import Path

from htcl.report.data import Curve
from htcl.training import METRICS_FILE

_TERMS = ("loss", "audio_text", "audio_audio", "audio_fusion")


def read_curve(folder: Path, stage: str) -> Curve:
    """The losses in a model folder, by term where there is more than one."""
    records = [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]
    names = [name for name in _TERMS if name in records[0]]
    if stage == "stage1":
        names = ["loss"]  # its one term is the loss
    series = {name: [float(record[name]) for record in records] for name in names}
    return Curve(stage, [int(record["global_step"]) for record in records], series)
