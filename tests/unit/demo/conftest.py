import json

import pytest

from htcl.demo import WorldSummary, generate_world
from htcl.demo.songs import Song, sample_songs

SONGS, SEED = 120, 3


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldSummary:
    return generate_world(tmp_path_factory.mktemp("demo") / "world", songs=SONGS, seed=SEED)


@pytest.fixture(scope="session")
def songs(world: WorldSummary) -> list[Song]:
    return sample_songs(world.songs, world.seed)


@pytest.fixture(scope="session")
def log_rows(world: WorldSummary) -> list[dict]:
    files = sorted(world.root.glob("interactions/dt=*/part-0.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture(scope="session")
def clean_rows(world: WorldSummary, log_rows: list[dict]) -> list[dict]:
    """The log without its dirt, as a pipeline should see it."""
    known = {f"T{i:06d}" for i in range(world.songs)}
    by_id = {row["event_id"]: row for row in log_rows if row["user_id"] and row["ts"].endswith("Z")}
    return sorted((row for row in by_id.values() if row["track_id"] in known), key=lambda row: row["ts"])
