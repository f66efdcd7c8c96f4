"""The model card of a trained folder."""

from __future__ import annotations

import json
from pathlib import Path

from htcl.config import PipelineConfig
from htcl.plan import Step

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
| steps | {steps} |
| last logged loss | {loss:.4f} |
| text encoder | {text_encoder} |

```python
from htcl.models import HTCLModel, HTCLProcessor

model, processor = HTCLModel.from_pretrained(FOLDER), HTCLProcessor.from_pretrained(FOLDER)
audio = model.get_audio_features(**processor(audio=[samples], sampling_rate=16_000))
text = model.get_text_features(**processor(text=["slow sad waltz on a harp"]))
```

Retrieval and recommendation figures with intervals are in the evaluation artifact made from this model.
"""


def write_model_card(folder: Path, config: PipelineConfig, step: Step, samples: int, steps: int) -> None:
    """Write README.md beside the weights, with what the model was made from."""
    last = json.loads((folder / METRICS_FILE).read_text().splitlines()[-1])
    text = _CARD.format(
        stage=step.name,
        name=config.name,
        key=step.key,
        inputs=", ".join(f"{name} {key}" for name, key in step.recipe.inputs.items()),
        samples=samples,
        steps=steps,
        loss=last["loss"],
        text_encoder=config.model.text_encoder,
    )
    (folder / "README.md").write_text(text)
