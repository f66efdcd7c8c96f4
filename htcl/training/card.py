"""The model card of a trained folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from htcl.config import PipelineConfig
from htcl.evaluation.results import Result, markdown_table
from htcl.models.card import ABOUT, FRONT_MATTER, USAGE
from htcl.plan import Step
from htcl.training import METRICS_FILE
from htcl.training.schedule import Schedule

_CARD = """{front_matter}

# HTCL {stage}: {name}

{about}, trained by the htcl pipeline.

| what | value |
|---|---|
| stage | {stage} |
| artifact key | {key} |
| made from | {inputs} |
| training samples | {samples} |
| steps | {steps}, of {batch} samples |
| last logged loss | {loss} |
| text encoder | {text_encoder} |

{results}

{usage}

The evaluation artifact made from this model has more: other songs, recommendation, other systems.
"""

_MEASURED = """Measured on songs of the validation side, which this training did not see, with 95 % bootstrap intervals:

{table}
"""


def write_metrics(folder: Path, records: list[dict[str, Any]]) -> None:
    """Write the training log beside the weights."""
    (folder / METRICS_FILE).write_text("".join(json.dumps(record) + "\n" for record in records))


def write_model_card(
    folder: Path,
    config: PipelineConfig,
    step: Step,
    schedule: Schedule,
    records: list[dict[str, Any]],
    results: list[Result],
) -> None:
    """Write README.md beside the weights: what the model was made from, and what it does on unseen songs.

    Args:
        folder: of the model.
        config: the configuration.
        step: the stage.
        schedule: what it was trained on.
        records: the training log; empty where there was no step.
        results: of `validate`.
    """
    measured = _MEASURED.format(table=markdown_table(results, [step.name])) if results else "Nothing was measured."
    text = _CARD.format(
        front_matter=FRONT_MATTER,
        about=ABOUT,
        usage=USAGE,
        stage=step.name,
        name=config.name,
        key=step.key,
        inputs=", ".join(f"{name} {key}" for name, key in step.recipe.inputs.items()),
        samples=len(schedule.samples.songs),
        steps=schedule.total_steps,
        batch=schedule.batch_size,
        results=measured.strip(),
        loss=f"{records[-1]['loss']:.4f}" if records else "–",
        text_encoder=config.model.text_encoder,
    )
    (folder / "README.md").write_text(text)
