import hashlib
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest

from htcl.demo import generate_world

from .audio_files import read_audio


def hashes(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def catalog(root: Path) -> list[dict]:
    return [json.loads(line) for line in (root / "catalog.jsonl").read_text().splitlines()]


def test_files_depend_on_songs_and_seed_only(tmp_path):
    one = generate_world(tmp_path / "one", songs=32, seed=5, workers=1)
    two = generate_world(tmp_path / "two", songs=32, seed=5, workers=2)
    other = generate_world(tmp_path / "other", songs=32, seed=6, workers=1)
    assert hashes(one.root) == hashes(two.root)
    different = {name for name, value in hashes(other.root).items() if hashes(one.root).get(name) != value}
    assert {"catalog.jsonl", "truth/songs.parquet", "truth/listeners.parquet"} <= different
    assert sum(name.startswith("audio/") for name in different) >= 31


def test_complete_world_is_reused(world):
    before = hashes(world.root)
    again = generate_world(world.root, songs=world.songs, seed=world.seed)
    assert again.reused
    assert not world.reused
    assert again.events == world.events
    assert hashes(world.root) == before


def test_another_folder_is_refused(world, tmp_path):
    with pytest.raises(ValueError, match="delete it or choose another folder"):
        generate_world(world.root, songs=world.songs, seed=world.seed + 1)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=str(tmp_path)):
        generate_world(tmp_path, songs=32)
    with pytest.raises(ValueError, match="at least 32"):
        generate_world(tmp_path / "new", songs=3)


def test_interrupted_world_leaves_nothing(tmp_path):
    def stop(phase: str, done: int, total: int) -> None:
        if phase == "songs" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_world(tmp_path / "world", songs=32, on_progress=stop, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_catalog_fields_and_summary(world):
    rows = catalog(world.root)
    assert len(rows) == world.songs == 2 * world.listeners
    assert len({row["track_id"] for row in rows}) == world.songs
    assert all((world.root / row["audio_path"]).is_file() for row in rows)
    assert all(row["title"] and row["artist"] and len(row["tags"]) >= 2 for row in rows)
    for nullable in ("album", "genre", "language", "split_group"):
        assert 0 < sum(row[nullable] is None for row in rows) < len(rows) / 2
    assert len({row["language"] for row in rows}) >= 5
    assert world.days == len(list(world.root.glob("interactions/dt=*"))) == 45


def test_split_groups_hold_versions_of_one_composition(world):
    truth = {row["track_id"]: row for row in pq.read_table(world.root / "truth/songs.parquet").to_pylist()}
    groups = defaultdict(list)
    for row in catalog(world.root):
        if row["split_group"]:
            groups[row["split_group"]].append(row)
    covers = [rows for rows in groups.values() if len(rows) > 1]
    assert 2 <= len(covers) <= world.songs / 10
    for rows in covers:
        versions = [truth[row["track_id"]] for row in rows]
        assert len(rows) <= 3
        assert len({row["title"] for row in rows}) == 1
        assert len({(v["composition"], v["key"], v["mode"], v["meter"]) for v in versions}) == 1
        assert versions[0]["instrument"] != versions[1]["instrument"]


def test_audio_decodes_but_for_two_files(world, songs):
    assert {song.extension for song in songs} == {"flac", "mp3", "ogg", "opus", "m4a", "wav"}
    assert sorted(song.damage for song in songs if song.damage) == ["not_audio", "truncated"]
    for song in songs:
        path = world.root / song.audio_path
        if song.damage:
            with pytest.raises((av.FFmpegError, ValueError)):
                read_audio(path)
        elif song.extension != "flac" or song.index < 10:
            assert len(read_audio(path)) / 16_000 == pytest.approx(song.duration_s, abs=0.2)


def test_import_needs_no_torch():
    code = "import sys, htcl.demo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
