"""Songs to embeddings with a published model, by streaming shards."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import webdataset as wds

from htcl import storage
from htcl.errors import HTCLError
from htcl.models import HTCLModel, HTCLProcessor
from htcl.shards.reader import MEND, decode_mel

Float32 = npt.NDArray[np.float32]

BUFFER_BATCHES = 8
"""Batches sorted by length together: little padding, bounded memory."""


class SongEmbedder:
    """A model in evaluation mode with its processor."""

    def __init__(self, model: HTCLModel, processor: HTCLProcessor) -> None:
        self.model, self.processor = model, processor
        self.model.train(False)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.nn.Module.to(self.model, self.device)

    @staticmethod
    @lru_cache(maxsize=2)
    def load(folder: str, model_id: str) -> SongEmbedder:
        """Load a model folder once a process; `model_id` tells two contents of one folder apart."""
        return SongEmbedder(HTCLModel.from_pretrained(folder), HTCLProcessor.from_pretrained(folder))

    @torch.inference_mode()
    def embed_texts(self, texts: list[str], batch_size: int = 64) -> Float32:
        """Unit text embeddings [n, d]."""
        blocks = []
        for start in range(0, len(texts), batch_size):
            inputs = self.processor(text=texts[start : start + batch_size]).to(self.device)
            blocks.append(unit(self.model.get_text_features(**inputs)))
        return np.concatenate(blocks)

    @torch.inference_mode()
    def embed_songs(
        self, mels: list[npt.NDArray[np.float16]], texts: list[str] | None = None
    ) -> tuple[Float32, Float32 | None]:
        """Unit audio embeddings [n, d] and, given the texts and a stage-2 model, fusion embeddings [n, d]."""
        inputs = {name: part.to(self.device) for name, part in self.processor.from_mels(mels).items()}
        audio = self.model.get_audio_features(**inputs)
        if texts is None:
            return unit(audio), None
        text = self.model.get_text_features(**self.processor(text=texts).to(self.device))
        return unit(audio), unit(self.model.get_fusion_features(audio, text))

    def embed_shard(
        self, uri: str, wanted: Mapping[str, Mapping[str, Any]], fused: bool, batch_size: int
    ) -> Iterator[list[dict[str, Any]]]:
        """Stream one shard and embed the wanted songs in it.

        Args:
            uri: the tar file.
            wanted: track_id -> row with shard, content_hash, text, text_hash.
            fused: also compute fusion embeddings.
            batch_size: songs of a forward pass.

        Yields:
            Blocks of rows of the embeddings table, without model_id.

        Raises:
            HTCLError: when the shard is damaged or lacks a wanted song.
        """
        buffer: list[tuple[dict[str, Any], npt.NDArray[np.float16]]] = []
        missing = set(wanted)
        for track_id, payload in shard_samples(uri):
            if track_id in wanted:
                missing.discard(track_id)
                row = dict(wanted[track_id])
                buffer.append((row, decode_mel(payload, row)))
            if len(buffer) == BUFFER_BATCHES * batch_size:
                yield from self._embed_buffer(buffer, fused, batch_size)
                buffer = []
        if missing:
            raise HTCLError(f"shard {uri} lacks {len(missing)} of its songs, such as {min(missing)}; {MEND}")
        yield from self._embed_buffer(buffer, fused, batch_size)

    def _embed_buffer(
        self, buffer: list[tuple[dict[str, Any], npt.NDArray[np.float16]]], fused: bool, batch_size: int
    ) -> Iterator[list[dict[str, Any]]]:
        buffer = sorted(buffer, key=lambda item: len(item[1]))
        for start in range(0, len(buffer), batch_size):
            part = buffer[start : start + batch_size]
            texts = [row["text"] for row, _ in part] if fused else None
            audio, fusion = self.embed_songs([mel for _, mel in part], texts)
            yield [
                {
                    "track_id": row["track_id"],
                    "embedding": audio[i].tolist(),
                    "fusion_embedding": fusion[i].tolist() if fusion is not None else None,
                    "content_hash": row["content_hash"],
                    "text_hash": row["text_hash"] if fused else None,
                }
                for i, (row, _) in enumerate(part)
            ]


def shard_samples(uri: str) -> Iterator[tuple[str, bytes]]:
    """(track_id, .mel.npy payload) of every sample of a WebDataset shard, in order.

    Raises:
        HTCLError: naming the shard when it is gone or no whole tar.
    """
    import json

    fs, path = storage.filesystem(uri)
    try:
        with fs.open(path, "rb") as stream:
            files = wds.tariterators.tar_file_iterator(stream)
            for sample in wds.tariterators.group_by_keys({**file, "__url__": uri} for file in files):
                yield json.loads(sample["json"])["track_id"], sample["mel.npy"]
    except (FileNotFoundError, tarfile.TarError, KeyError, ValueError) as error:
        raise HTCLError(f"shard {uri} is gone or damaged ({error}); {MEND}") from None


def unit(vectors: torch.Tensor) -> Float32:
    """Rows of unit length as float32 on the host."""
    normalized = torch.nn.functional.normalize(vectors.float(), dim=-1)
    return np.asarray(normalized.cpu().numpy(), dtype=np.float32)
