"""What every model card says, whoever made the folder."""

FRONT_MATTER = """---
library_name: htcl
tags: [music, audio, contrastive-learning, recommendation]
---"""
ABOUT = """Audio and text encoders of *Bridging the Gap Between Semantic and User Preference Spaces for Multi-modal
Music Representation Learning* (HTCL)"""
USAGE = """```python
from htcl.models import HTCLModel, HTCLProcessor

model, processor = HTCLModel.from_pretrained(FOLDER), HTCLProcessor.from_pretrained(FOLDER)
audio = model.get_audio_features(**processor(audio=[samples], sampling_rate=16_000))
text = model.get_text_features(**processor(text=["slow sad waltz on a harp"]))
```"""
