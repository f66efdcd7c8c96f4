"""The losses of a stage out of the training log beside its model."""

from __future__ import annotations

import json
from pathlib import Path

from htcl.report.data import Curve
from htcl.training import METRICS_FILE

_TERMS = ("loss", "audio_text", "audio_audio", "audio_fusion")


def read_curve(folder: Path, stage: str) -> Curve:
    """The losses in a model folder, by term where there is more than one; no steps where none was trained."""
    records = [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]
    terms = _TERMS[:1] if stage == "stage1" else _TERMS  # the one term of stage 1 is the loss
    names = [name for name in terms if records and name in records[0]]
    series = {name: [float(record[name]) for record in records] for name in names}
    return Curve(stage, [int(record["global_step"]) for record in records], series)
