"""The shards job against the bare loop of decoding and log-mel over the same files, in one run on the same cores.

python -m tests.benchmarks.shards_rate
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import torch
import yaml

from htcl.artifacts import ArtifactStore
from htcl.audio.decode import decode_audio
from htcl.audio.features import log_mel
from htcl.audio.isolated import IsolatedDecoder, Limits
from htcl.config import AudioConfig
from htcl.config_file import load_config
from htcl.demo.encode import CODECS, write_audio
from htcl.ingest.catalog import build_catalog
from htcl.plan import plan
from htcl.shards.blocks import TRACK, pack
from htcl.shards.tasks import Decoding, decode_tracks
from tests.benchmarks.table import Line, print_table
from tests.long_audio import peak_mb, sparse_wav

ROOT = Path(__file__).resolve().parents[2]
SONGS, FEW, SLOTS, CPU_ROUNDS = 576, 32, 2, 3
SECONDS = (30, 60, 90, 120)
RATE = 16_000


def figures() -> list[Line]:
    """Songs a second, what starting takes, and the memory of a decoding process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, many = (_project(folder / str(count), count) for count in (FEW, SONGS))
        total, start = _job_seconds(few)
        before = _bare_seconds(many)
        _, whole = _job_seconds(many)
        bare = (before + _bare_seconds(many)) / 2  # the machine's moods meet both alike
        task_cpu, bare_cpu = _cpu_a_song(few)
        long, short = (_decoder_peak(sparse_wav(folder / f"{seconds}.wav", seconds)) for seconds in (36_000, 120))
    # A run over few songs, too, imports torch, starts decoders, copies small shards and commits.
    ours, peer = (SONGS - FEW) / (whole - start), SONGS / bare
    what = f"{SONGS} songs of 30 to 120 s to log-mels in shards on {SLOTS} cores, against the bare loop"
    return [
        Line(what, f"{ours:.1f} songs/s", f"{peer:.1f} songs/s", f"{ours / peer:.0%}", "at least 80 %"),
        Line(
            "CPU a song of a task and its decoder, which others on the machine change less, against the bare loop",
            f"{1000 * task_cpu:.0f} ms",
            f"{1000 * bare_cpu:.0f} ms",
            f"{bare_cpu / task_cpu:.0%}",
            "at least 80 %",
        ),
        Line(f"starting Spark, Python and torch: the job over {FEW} songs", f"{total:.1f} s", "", "", ""),
        Line(
            "memory of a decoding process, a file of 10 hours against 2 minutes",
            f"{long:.0f} MB",
            f"{short:.0f} MB",
            f"{long / short:.2f} x",
            "about 1 x",
        ),
    ]


def _project(folder: Path, songs: int) -> Path:
    """Songs in all formats behind a checked catalog; many are copies of few, which the first run cannot know."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    models: dict[tuple[str, int], Path] = {}
    for number in range(songs):
        kind = (list(CODECS)[number % len(CODECS)], SECONDS[number // len(CODECS) % len(SECONDS)])
        path = folder / "audio" / f"{number:05d}.{kind[0]}"
        if kind in models:
            shutil.copy(models[kind], path)
        else:
            write_audio(path, _waveform(number, kind[1]))
            models[kind] = path
        rows.append({"track_id": f"t{number:05d}", "title": "a song", "audio_path": path.name})
    (folder / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "log.jsonl").write_text("{}\n")
    values = {
        "workspace": "workspace",
        "catalog": {"path": "catalog.jsonl", "audio_root": "audio"},
        "interactions": {"path": "log.jsonl"},
    }
    path = folder / "htcl.yaml"
    path.write_text(yaml.safe_dump(values))
    config = load_config(path)
    with ArtifactStore(config.workspace).create(plan(config)["catalog"].recipe) as draft:
        build_catalog(config, draft.path)
    return path


def _waveform(seed: int, seconds: int) -> np.ndarray:
    """Gliding tones over noise, which no codec finds easy."""
    rng, time_ = np.random.default_rng(seed), np.arange(seconds * RATE, dtype=np.float32) / RATE
    tones = sum(np.sin(2 * np.pi * f * time_ * (1 + 0.1 * np.sin(time_))) for f in rng.uniform(100, 3000, 5))
    return (0.08 * tones + 0.03 * rng.standard_normal(len(time_))).astype(np.float32)


def _job_seconds(path: Path) -> tuple[float, float]:
    """A whole spark-submit, and what the job says that it took from the first task to the commit."""
    folder = Path(sys.executable).parent
    command = [str(folder / "spark-submit"), "--master", f"local[{SLOTS}]"]
    command += [str(ROOT / "jobs" / "build_shards.py"), "--config", str(path)]
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    config = load_config(path)
    manifest = ArtifactStore(config.workspace).manifest("shards", plan(config)["shards"].key)
    return seconds, float(manifest["figures"]["seconds"])


def _bare_seconds(path: Path) -> float:
    """The loop over all songs, in as many processes as the job has; starting them is left out."""
    files = sorted((path.parent / "audio").iterdir())
    with ProcessPoolExecutor(SLOTS, mp_context=get_context("spawn")) as pool:
        return max(pool.map(_bare_loop, [files[slot::SLOTS] for slot in range(SLOTS)]))


def _bare_loop(files: list[Path]) -> float:
    torch.set_num_threads(1)
    log_mel(decode_audio(files[0]).samples)
    started = time.perf_counter()
    for file in files:
        log_mel(decode_audio(file).samples)
    return time.perf_counter() - started


def _cpu_a_song(path: Path) -> tuple[float, float]:
    """CPU seconds a song of what a task does, and of the bare loop, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure_cpu, path).result()


def _measure_cpu(path: Path) -> tuple[float, float]:
    files = sorted((path.parent / "audio").iterdir())
    config = load_config(path)
    folder = str(path.parent / "spare")
    limits = Limits(config.audio.decode_seconds, config.audio.decode_memory_mb)
    job = Decoding(str(path.parent / "audio"), folder, config.audio, limits, int(config.shards.max_mb * 1e6))
    rows = [{"track_id": file.name, "audio_path": file.name, "duration_s": None} for file in files]
    group = pack(pa.Table.from_pylist(rows, TRACK))
    decode_tracks(pack(pa.Table.from_pylist(rows[:1], TRACK)), job)  # torch and the decoder are there now
    taken = [0.0, 0.0]
    for _ in range(CPU_ROUNDS):
        for number, act in enumerate((lambda: decode_tracks(group, job), lambda: _bare_loop(files))):
            before = _cpu_seconds()
            act()
            taken[number] += (_cpu_seconds() - before) / len(files) / CPU_ROUNDS
    return taken[0], taken[1]


def _cpu_seconds() -> float:
    """Of this process and the decoder that it started."""
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children()))


def _decoder_peak(path: Path) -> float:
    audio = AudioConfig()
    decoder = IsolatedDecoder(Limits(audio.decode_seconds, audio.decode_memory_mb))
    decoder.submit(str(path))
    decoder.result()
    peak = peak_mb(decoder)
    decoder.close()
    return peak


if __name__ == "__main__":
    print_table(figures())
