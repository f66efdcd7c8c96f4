"""Our step against a plain re-statement of the authors': every song encoded each time it occurs, padded to 1251."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import torch

from htcl.training.batches import micro_batches
from htcl.training.losses import stage2_loss
from htcl.training.schedule import assign_songs
from tests.benchmarks.setting import (
    FULL_FRAMES,
    SIZE,
    batch_of,
    inputs_of,
    new_engine,
    new_mels,
    new_model,
    new_processor,
    train_on,
)
from tests.benchmarks.table import Line
from tests.benchmarks.timing import median_seconds

PAIRS = 32
SHORT_FRAMES = (110, 625)
"""Half of the songs last 10 to 60 s."""


def against(rounds: int, log: Path | None) -> list[Line]:
    """Mixed lengths, then all of full length; with the pairs of a log where one is given."""
    pairs = _pairs_of(log) if log else np.arange(2 * PAIRS).reshape(-1, 2)
    generator = np.random.default_rng(0)
    batch = pairs[generator.choice(len(pairs), PAIRS, replace=False)]
    songs = np.unique(batch)
    mixed = np.where(generator.random(len(songs)) < 0.5, generator.integers(*SHORT_FRAMES, len(songs)), FULL_FRAMES)
    origin = f"{len(songs)} different songs in {PAIRS} pairs" + (" of a real log" if log else ", no log given")
    lengths = {"half of them shorter than 60 s": mixed, "all of 1251 frames": np.full(len(songs), FULL_FRAMES)}
    wanted = {"half of them shorter than 60 s": "at least 1.5 x", "all of 1251 frames": "not slower"}
    return [
        _compare(np.searchsorted(songs, batch), frames.tolist(), rounds, f"stage 2, {origin}, {name}", wanted[name])
        for name, frames in lengths.items()
    ]


def _compare(batch: np.ndarray, frames: list[int], rounds: int, what: str, wanted: str) -> Line:
    mels, lengths = new_mels(frames), np.array(frames, dtype=np.int32)
    assigned = assign_songs(batch, lengths, 0, 1)
    processor = new_processor()
    parts = [
        inputs_of(processor, [mels[song] for song in assigned.songs[at]], assigned.songs[at].tolist())
        for at in micro_batches(lengths[assigned.songs], None)
    ]
    ready = batch_of(parts, assigned.places, batch)
    engine = new_engine(2, PAIRS, new_model(2))

    mine, peer = median_seconds([lambda: train_on(engine, ready), _authors_step(batch, mels)], 2 * rounds)
    rates = [f"{2 * PAIRS / seconds:.1f} songs/s" for seconds in (mine, peer)]
    return Line(f"{what} ({SIZE})", *rates, f"{peer / mine:.2f} x", wanted)


def _authors_step(batch: np.ndarray, mels: list[np.ndarray]):  # type: ignore[no-untyped-def]
    model = new_model(2, reference_parity=True)
    processor = new_processor(parity=True)
    adam = torch.optim.Adam(model.parameters(), lr=1e-5)
    sides = [inputs_of(processor, [mels[song] for song in side], side.tolist()) for side in batch.T]

    def step() -> None:
        audio = [model.get_audio_features(side["input_features"]) for side in sides]
        text = [
            model.get_text_features(side["input_ids"], side["text_attention_mask"], side["token_type_ids"])
            for side in sides
        ]
        fusion = [model.get_fusion_features(*views) for views in zip(audio, text, strict=True)]
        loss, _ = stage2_loss(tuple(audio), tuple(text), tuple(fusion), model.temperatures, clamp=False)  # type: ignore[arg-type]
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()

    return step


def _pairs_of(log: Path) -> np.ndarray:
    """Directed pairs of songs that two users or more put into one session, by number [n, 2]."""
    users: dict[tuple[str, str], set[str]] = defaultdict(set)
    for (user, _), tracks in _sessions(log).items():
        for pair in permutations(sorted(tracks), 2):
            users[pair].add(user)
    kept = [pair for pair, who in users.items() if len(who) >= 2]
    numbers: Counter[str] = Counter(track for pair in kept for track in pair)
    place = {track: number for number, track in enumerate(sorted(numbers))}
    return np.array([[place[a], place[b]] for a, b in kept])


def _sessions(log: Path) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for event in _events(log):
        if event.get("user_id") and event.get("track_id"):
            found[event["user_id"], event.get("session_id") or event["ts"]].add(event["track_id"])
    return found


def _events(log: Path) -> Iterator[dict[str, str]]:
    for path in sorted(log.rglob("*.json*")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue
