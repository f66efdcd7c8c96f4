"""HTCLProcessor: raw audio, log-mel and text to the tensors that HTCLModel reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, BatchFeature, PreTrainedTokenizerBase

from htcl.audio import features
from htcl.models.configuration_htcl import HTCLAudioConfig
from htcl.text import DEFAULT_TEXT_FIELDS, PROCESSOR_FILE


class HTCLProcessor:
    """Feature extraction and tokenizer of a model folder, in the manner of transformers' processors.

    Args:
        tokenizer: of the text encoder.
        audio_config: numbers of the log-mel; by default the published ones.
        max_tokens: texts are cut after this many tokens.
        text_fields: catalog columns that the model was trained to read as text, in order (see htcl.text).
        reference_parity: pad each song to full length and normalise over the padding, as the authors do.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        audio_config: HTCLAudioConfig | None = None,
        *,
        max_tokens: int = 128,
        text_fields: Sequence[str] = DEFAULT_TEXT_FIELDS,
        reference_parity: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.audio_config = audio_config if audio_config is not None else HTCLAudioConfig()
        self.max_tokens = max_tokens
        self.text_fields = list(text_fields)
        self.reference_parity = reference_parity

    def __call__(
        self,
        audio: Sequence[NDArray[np.float32]] | None = None,
        text: Sequence[str] | None = None,
        sampling_rate: int | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Prepare a batch of audio, of text, or of both.

        The result feeds a method of HTCLModel: `get_audio_features(**processor(audio=...))`,
        `get_text_features(**processor(text=...))`, and the model itself where both are given; the mask of the
        text is then named `text_attention_mask`.

        Args:
            audio: mono waveforms [samples] at `sampling_rate`, cut after `max_seconds`.
            text: one text per song.
            sampling_rate: Hz, required with audio.
            return_tensors: `pt` or `np`.

        Returns:
            `input_features` float32 [batch, frames, n_mels] and `attention_mask` int64 [batch, frames];
            `input_ids`, `attention_mask` and `token_type_ids` int64 [batch, tokens].

        Raises:
            ValueError: if neither is given, the rate is not the model's, or a song is too short.
        """
        if audio is None and text is None:
            raise ValueError("give audio, text or both")
        inputs: dict[str, Tensor] = {}
        if audio is not None:
            self._check_rate(sampling_rate)
            inputs |= self.from_mels([self.log_mel(samples) for samples in audio])
        if text is not None:
            tokens = self._tokenize(text)
            if audio is not None:
                tokens["text_attention_mask"] = tokens.pop("attention_mask")
            inputs |= tokens
        return BatchFeature(inputs, tensor_type=return_tensors)

    def from_mels(self, mels: Sequence[NDArray[np.float16]]) -> dict[str, Tensor]:
        """Prepare songs whose log-mel, as `htcl.audio.features.log_mel` gives it, is already there (shards).

        Args:
            mels: [frames, n_mels] per song, in dB.

        Returns:
            `input_features` float32 [batch, frames, n_mels] and `attention_mask` int64 [batch, frames].

        Raises:
            ValueError: if a song has other mels than the model or fewer frames than it needs.
        """
        for index, mel in enumerate(mels):
            if mel.shape[1] != self.audio_config.n_mels or len(mel) < self.audio_config.min_frames:
                raise ValueError(
                    f"song {index} has log-mel of shape {mel.shape}, the model needs at least "
                    f"{self.audio_config.min_frames} frames of {self.audio_config.n_mels} mels: "
                    "leave out shorter songs, extract others again"
                )
        batch, lengths = features.pad_batch(mels)
        if self.reference_parity:
            batch = torch.nn.functional.pad(batch, (0, 0, 0, self.max_frames - batch.shape[1]))
            batch = features.normalize_reference(batch)
        else:
            batch = features.normalize(batch, lengths)
        mask = (torch.arange(batch.shape[1]) < lengths[:, None]).long()
        return {"input_features": batch, "attention_mask": mask}

    @property
    def max_frames(self) -> int:
        """Frames of audio of full length (1251 for 120 s)."""
        return features.num_frames(self._max_samples, self.audio_config.hop_length)

    @property
    def _max_samples(self) -> int:
        return round(self.audio_config.max_seconds * self.audio_config.sample_rate)

    def _check_rate(self, sampling_rate: int | None) -> None:
        expected = self.audio_config.sample_rate
        if sampling_rate != expected:
            raise ValueError(
                f"audio has sampling_rate {sampling_rate}, the model reads {expected} Hz: "
                f"resample it (htcl.audio.decode.decode_audio does) and pass sampling_rate={expected}"
            )

    def log_mel(self, samples: NDArray[np.float32]) -> NDArray[np.float16]:
        """Log-mel [frames, n_mels] of a song, mono at the rate of the model [n], as `from_mels` reads it."""
        config = self.audio_config
        return features.log_mel(
            samples[: self._max_samples],
            sample_rate=config.sample_rate,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            n_mels=config.n_mels,
            top_db=config.top_db,
        )

    def _tokenize(self, text: Sequence[str]) -> dict[str, Tensor]:
        tokens = self.tokenizer(
            list(text), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return dict(tokens)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer and feature numbers into a model folder."""
        self.tokenizer.save_pretrained(folder)
        values: dict[str, Any] = {
            "processor_class": type(self).__name__,
            "audio_config": self.audio_config.to_dict(),
            "max_tokens": self.max_tokens,
            "text_fields": self.text_fields,
            "reference_parity": self.reference_parity,
        }
        (Path(folder) / PROCESSOR_FILE).write_text(json.dumps(values, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "HTCLProcessor":
        """Read what `save_pretrained` wrote.

        Raises:
            FileNotFoundError: if the folder holds no processor.
        """
        path = Path(folder) / PROCESSOR_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: write it with HTCLProcessor.save_pretrained")
        values = json.loads(path.read_text())
        return cls(
            AutoTokenizer.from_pretrained(folder),
            HTCLAudioConfig(**values["audio_config"]),
            max_tokens=values["max_tokens"],
            text_fields=values["text_fields"],
            reference_parity=values["reference_parity"],
        )
