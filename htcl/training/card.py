"""The model card of a trained folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from htcl.config import PipelineConfig
from htcl.evaluation.results import Result, markdown_table
from htcl.plan import Step
from htcl.training.schedule import Schedule

METRICS_FILE = "metrics.jsonl"
"""The training log beside the weights, one JSON object a line."""

_CARD = """---
library_name: htcl
tags: [music, audio, contrastive-learning, recommendation]
---

# HTCL {stage}: {name}

Audio and text encoders of *Bridging the Gap Between Semantic and User Preference Spaces for Multi-modal Music
Representation Learning* (HTCL), trained by the htcl pipeline.

| what | value |
|---|---|
| stage | {stage} |
| artifact key | {key} |
| made from | {inputs} |
| training samples | {samples} |
| steps | {steps}, of {batch} samples |
| last logged loss | {loss:.4f} |
| text encoder | {text_encoder} |

{results}

```python
from htcl.models import HTCLModel, HTCLProcessor

model, processor = HTCLModel.from_pretrained(FOLDER), HTCLProcessor.from_pretrained(FOLDER)
audio = model.get_audio_features(**processor(audio=[samples], sampling_rate=16_000))
text = model.get_text_features(**processor(text=["slow sad waltz on a harp"]))
```

The evaluation artifact made from this model has more: other songs, recommendation, other systems.
"""

_MEASURED = """Measured on songs that no training saw, with 95 % bootstrap intervals over them:

{table}
"""


def write_metrics(folder: Path, records: list[dict[str, Any]]) -> None:
    """Write the training log beside the weights."""
    (folder / METRICS_FILE).write_text("".join(json.dumps(record) + "\n" for record in records))


def write_model_card(
    folder: Path, config: PipelineConfig, step: Step, schedule: Schedule, results: list[Result]
) -> None:
    """Write README.md beside the weights: what the model was made from, and what it does on unseen songs."""
    last = json.loads((folder / METRICS_FILE).read_text().splitlines()[-1])
    measured = _MEASURED.format(table=markdown_table(results, [step.name])) if results else "Nothing was measured."
    text = _CARD.format(
        stage=step.name,
        name=config.name,
        key=step.key,
        inputs=", ".join(f"{name} {key}" for name, key in step.recipe.inputs.items()),
        samples=len(schedule.samples.songs),
        steps=schedule.total_steps,
        batch=schedule.batch_size,
        results=measured.strip(),
        loss=last["loss"],
        text_encoder=config.model.text_encoder,
    )
    (folder / "README.md").write_text(text)
