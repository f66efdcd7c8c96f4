"""The embedding job against the bare forward of its model over the same songs, in one run on the same cores.

python -m tests.benchmarks.embed_rate
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.embeddings.embedder import SongEmbedder
from htcl.plan import plan
from htcl.shards.index import read_index
from htcl.shards.reader import Mel, ShardReader
from tests.benchmarks.setting import new_model
from tests.benchmarks.table import Line, print_table
from tests.embedding_workspace import publish_models, publish_songs, write_config, write_shards

ROOT = Path(__file__).resolve().parents[2]
SONGS, FEW, FRAMES, BATCH, SLOTS, N_MELS = 2048, 32, (200, 600), 16, 2, 128
SHARD_BYTES = 8 << 20
SIZES = {(4, 256): "printed: reading and padding show in a small model", (6, 512): "at least 90 %"}
"""Layers and width of the audio encoder (the paper has 12 x 768), and what is wanted."""


def figures() -> list[Line]:
    """Songs a second of stage 2, whose tasks find Python and torch started by those of stage 1, and that start."""
    with tempfile.TemporaryDirectory() as name:
        return [line for size in SIZES for line in _of_size(Path(name), *size)]


def _of_size(folder: Path, layers: int, width: int) -> list[Line]:
    lengths = np.random.default_rng(0).integers(*FRAMES, SONGS).tolist()
    few, many = (_workspace(folder / f"{width}-{count}", lengths[:count], layers, width) for count in (FEW, SONGS))
    total, start = _job_seconds(few)
    before = _bare_seconds(many)
    _, whole = _job_seconds(many)
    bare = (before + _bare_seconds(many)) / 2  # the machine's moods meet both alike
    # A run over few songs, too, looks for them, loads the model and commits.
    ours, peer = (SONGS - FEW) / (whole - start), SONGS / bare
    size = f"audio {layers} x {width}"
    what = f"embedding {SONGS} songs ({size}) on {SLOTS} cores, against the bare forward"
    return [
        Line(what, f"{ours:.1f} songs/s", f"{peer:.1f} songs/s", f"{ours / peer:.0%}", SIZES[layers, width]),
        Line(f"starting Spark, Python, torch and two models ({size}): {FEW} songs", f"{total:.1f} s", "", "", ""),
    ]


def _workspace(folder: Path, lengths: list[int], layers: int, width: int) -> Path:
    """Shards of songs of these lengths, and models of a size."""
    folder.mkdir()
    path = write_config(folder, embedding={"batch_size": BATCH})
    config = load_config(path)
    frames = {f"t{number:05d}": length for number, length in enumerate(lengths)}
    publish_songs(config, write_shards(config.workspace, frames, SHARD_BYTES, N_MELS), plan(config))
    audio = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": 4 * width}
    publish_models(config, lambda stage: new_model(stage, audio).eval(), N_MELS)
    return path


def _job_seconds(path: Path) -> tuple[float, float]:
    """A whole spark-submit, and what the job says that it took for stage 2."""
    folder = Path(sys.executable).parent
    command = [str(folder / "spark-submit"), "--master", f"local[{SLOTS}]"]
    command += [str(ROOT / "jobs" / "embed_catalog.py"), "--config", str(path)]
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    config = load_config(path)
    manifest = ArtifactStore(config.workspace).manifest("embeddings", plan(config)["embeddings"].key)
    return seconds, float(manifest["figures"]["stage2"]["seconds"])


def _bare_seconds(path: Path) -> float:
    """The forward over all songs, in as many processes as the job has; everything else is left out."""
    with ProcessPoolExecutor(SLOTS, mp_context=get_context("spawn")) as pool:
        return max(pool.map(_bare_forward, [load_config(path)] * SLOTS, range(SLOTS)))


def _bare_forward(config: PipelineConfig, slot: int) -> float:
    torch.set_num_threads(1)
    store, steps = ArtifactStore(config.workspace), plan(config)
    index = read_index(store.fetch("shards", steps["shards"].key))
    mine = np.arange(slot, len(index), SLOTS)
    mine = mine[np.argsort(np.asarray(index["frames"])[mine], kind="stable")]
    mels = ShardReader(f"{config.workspace}/shards", index, cache_bytes=0).read(mine)
    embedder = SongEmbedder.load(str(store.fetch("stage2", steps["stage2"].key)), "", "cpu")
    return sum(_forward_seconds(embedder, mels[start : start + BATCH]) for start in range(0, len(mels), BATCH))


@torch.inference_mode()
def _forward_seconds(embedder: SongEmbedder, mels: list[Mel]) -> float:
    inputs, text = embedder.processor.from_mels(mels), embedder.processor(text=["w1 w2"] * len(mels))
    started = time.perf_counter()
    audio = embedder.model.get_audio_features(**inputs)
    embedder.model.get_fusion_features(audio, embedder.model.get_text_features(**text))
    return time.perf_counter() - started


if __name__ == "__main__":
    print_table(figures())
