"""The demo as a project folder: a generated world beside a configuration that anyone can copy."""

from __future__ import annotations

from pathlib import Path

from htcl.demo.world import Progress, WorldSummary, generate_world
from htcl.errors import HTCLError

CONFIG_FILE = "htcl.yaml"

_CONFIG = """\
# The pipeline over a generated world. Every `htcl demo` writes this file anew. For data of your own start from the
# example in the README (preset: base): the demo's sizes and text fields are made for a small world.
preset: demo
name: demo world of {songs} songs
workspace: workspace
catalog:
  path: world-{songs}-{seed}/catalog.jsonl
interactions:
  path: world-{songs}-{seed}/interactions
"""


def prepare_demo(root: Path, songs: int, seed: int, on_progress: Progress | None = None) -> tuple[Path, WorldSummary]:
    """Generate the world unless it is there, and write the configuration that runs on it.

    Args:
        root: project folder of the demo.
        songs: size of the world.
        seed: of the world.
        on_progress: called with (phase, done, total).

    Returns:
        (configuration file, what the world holds).

    Raises:
        HTCLError: when the world is too small, or its folder holds something else.
    """
    world = root / f"world-{songs}-{seed}"
    try:
        summary = generate_world(world, songs=songs, seed=seed, on_progress=on_progress)
    except ValueError as error:
        raise HTCLError(str(error)) from None
    path = root / CONFIG_FILE
    path.write_text(_CONFIG.format(songs=songs, seed=seed))
    return path, summary
