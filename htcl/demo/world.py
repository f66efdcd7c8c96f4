"""Generate a whole world: songs, texts, listeners and their log, in one folder that appears complete."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

from htcl.demo.events import simulate
from htcl.demo.interactions import write_interactions
from htcl.demo.listeners import sample_listeners
from htcl.demo.render import write_song
from htcl.demo.songs import DAYS, FIRST_DAY, LAST_DAY, Song, sample_songs
from htcl.demo.texts import catalog_rows
from htcl.demo.truth import write_truth

WORLD_VERSION = 1  # raised when the same songs and seed make another world
MIN_SONGS = 32
CHUNK = 8  # songs a process takes at a time

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class WorldSummary:
    """What a world holds. `events` counts all rows of the log, `dirty_events` those broken on purpose."""

    root: Path
    songs: int
    seed: int
    version: int
    listeners: int
    events: int
    dirty_events: int
    days: int
    first_day: str
    last_day: str
    audio_seconds: float
    reused: bool = False


def generate_world(
    root: Path,
    songs: int = 600,
    seed: int = 7,
    on_progress: Progress | None = None,
    workers: int | None = None,
) -> WorldSummary:
    """Generate a world of `songs` songs and half as many listeners in the folder `root`.

    The same songs and seed give the same files, whatever the number of worker processes (by default one per
    core; with 1 the work is done in this process). A complete world that `root` already holds is reused.

    `on_progress` is called with the phase ("log" or "songs"), the items done and their total.

    Raises:
        ValueError: if `songs` is too small, or `root` holds anything but this world.
    """
    if songs < MIN_SONGS:
        raise ValueError(f"songs={songs} is too small a world; use at least {MIN_SONGS}")
    report = on_progress or (lambda phase, done, total: None)
    root = Path(root).absolute()
    if reused := _existing(root, songs, seed):
        return reused
    root.parent.mkdir(parents=True, exist_ok=True)
    aside = root.with_name(f".{root.name}.{uuid4().hex[:8]}.tmp")
    try:
        summary = _write_world(aside, sample_songs(songs, seed), seed, report, workers or os.cpu_count() or 1)
        aside.rename(root)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return replace(summary, root=root)


def _existing(root: Path, songs: int, seed: int) -> WorldSummary | None:
    """The world in `root` if it is the one asked for, None if there is nothing."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    wanted = {"songs": songs, "seed": seed, "version": WORLD_VERSION}
    summary = root / "world.json"
    found = json.loads(summary.read_text()) if summary.is_file() else {}
    if {key: found.get(key) for key in wanted} != wanted:
        raise ValueError(
            f"{root} exists and is not the world of songs={songs}, seed={seed}, version={WORLD_VERSION}; "
            "delete it or choose another folder"
        )
    return WorldSummary(root=root, **found, reused=True)


def _write_world(root: Path, songs: list[Song], seed: int, report: Progress, workers: int) -> WorldSummary:
    """Write everything under `root`, world.json last."""
    root.mkdir()
    listeners = sample_listeners(len(songs) // 2, seed)
    _write_lines(root / "catalog.jsonl", catalog_rows(songs, seed))
    write_truth(root, songs, listeners)
    report("log", 0, len(listeners))
    events = simulate(songs, listeners, seed)
    dirty = write_interactions(root, events, songs, listeners, seed)
    report("log", len(listeners), len(listeners))
    _write_audio(root, songs, seed, report, workers)
    summary = WorldSummary(
        root=root,
        songs=len(songs),
        seed=seed,
        version=WORLD_VERSION,
        listeners=len(listeners),
        events=len(events) + dirty,
        dirty_events=dirty,
        days=DAYS,
        first_day=FIRST_DAY.isoformat(),
        last_day=LAST_DAY.isoformat(),
        audio_seconds=round(sum(song.duration_s for song in songs if song.damage is None), 1),
    )
    # Where it lies and whether it was reused are no part of the world.
    facts = {key: value for key, value in asdict(summary).items() if key not in ("root", "reused")}
    (root / "world.json").write_text(json.dumps(facts, indent=2) + "\n")
    return summary


def _write_lines(path: Path, rows: Iterable[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _write_audio(root: Path, songs: list[Song], seed: int, report: Progress, workers: int) -> None:
    write = partial(write_song, root, seed=seed)
    report("songs", 0, len(songs))
    if workers == 1:
        for done, song in enumerate(songs, start=1):
            write(song)
            report("songs", done, len(songs))
        return
    # Spawned, so that no thread or lock of the caller is copied.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(write, songs, chunksize=CHUNK), start=1):
            report("songs", done, len(songs))
