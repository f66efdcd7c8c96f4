"""The HTCL model in Hugging Face conventions: configuration, encoders and heads, processor."""

# First, because transformers imports torchaudio, which fails beside a CPU torch unless it came by this way.
import htcl.audio.torchaudio_cpu  # noqa: F401

# isort: split
from transformers import AutoConfig, AutoModel

from htcl.models.configuration_htcl import HTCLAudioConfig, HTCLConfig
from htcl.models.modeling_htcl import HTCLModel, HTCLOutput
from htcl.models.processing_htcl import HTCLProcessor

AutoConfig.register("htcl", HTCLConfig)
AutoModel.register(HTCLConfig, HTCLModel)

__all__ = ["HTCLAudioConfig", "HTCLConfig", "HTCLModel", "HTCLOutput", "HTCLProcessor"]
