"""Tiny files of each layout, what `prepare` makes of them, and that our own readers take it."""

import bz2
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl.config_file import load_config, validate_config
from htcl.datasets.prepare import prepare
from htcl.datasets.registry import find
from htcl.ingest.catalog import build_catalog, read_catalog
from htcl.ingest.log import read_log_file
from htcl.schemas import INTERACTIONS


@pytest.fixture
def source(tmp_path):
    """Write files of a data set: `source({"name": text, bytes or table}, audio=[...])` gives their folder."""
    folder = tmp_path / "source"

    def written(files, audio=()):
        for name, content in (files | dict.fromkeys(audio, b"\0")).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pa.Table):
                pq.write_table(content, path)
                continue
            data = content.encode() if isinstance(content, str) else content
            path.write_bytes(bz2.compress(data) if path.suffix == ".bz2" else data)
        return folder

    return written


@pytest.fixture
def prepared(tmp_path):
    """Prepare a folder: summary, tracks, events, rejects and the folder that came out, checked by our own readers."""

    def made(name, folder, subset=None):
        target = tmp_path / "out"
        summary = prepare(name, folder, target, subset)
        brings = find(name).brings
        out = SimpleNamespace(summary=summary, folder=target, tracks=[], events=[])
        out.rejects = [tuple(row.values()) for row in pq.read_table(target / "rejects.parquet").to_pylist()]
        assert len(out.rejects) == sum(summary.rejected.values())
        if "catalog" in brings:
            path = target / ("catalog.parquet" if "audio" in brings else "tracks.parquet")
            out.tracks = [
                {key: value for key, value in row.items() if value not in (None, [])}
                for row in pq.read_table(path).to_pylist()
            ]
            assert len(out.tracks) == summary.tracks
        if "audio" in brings:
            read_by_us(tmp_path, target, summary, folder, subset)
        if "log" in brings:
            out.events = events_of(target)
            assert len(out.events) == summary.events
        if summary.config:
            config = load_config(summary.config)
            assert config.catalog.path == str(target / "catalog.parquet") and config.name == name
            assert config.interactions.path == str(target / "interactions")
        assert (target / "htcl.yaml").exists() == bool(summary.config)
        assert find(name).citation in (target / "SOURCE.md").read_text()
        assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []
        return out

    return made


def read_by_us(tmp_path, target, summary, folder, subset):
    """The catalog step takes every row, and every file lies below the audio root."""
    config = validate_config(
        {
            "workspace": str(tmp_path / "workspace"),
            "catalog": {"path": str(target / "catalog.parquet")},
            "interactions": {"path": "log"},
        },
        "test",
    )
    artifact = tmp_path / "artifact"
    artifact.mkdir(exist_ok=True)
    figures = build_catalog(config, artifact)
    assert (figures["tracks"], figures["rejects"]) == (summary.tracks, {})
    root = summary.dataset.audio_root(SimpleNamespace(folder=Path(folder), subset=subset))
    assert all((root / path).is_file() for path in read_catalog(artifact)["audio_path"].to_pylist())


def events_of(target):
    """The events as our own reader gives them: user, track, time, type, and what else there is, in order."""
    section = validate_config(
        {"workspace": "w", "catalog": {"path": "c"}, "interactions": {"path": str(target / "interactions")}}, "test"
    ).interactions
    rows = []
    for path in sorted((target / "interactions").iterdir()):
        assert pq.read_schema(path).equals(INTERACTIONS)
        for table in read_log_file(str(path), "parquet", section):
            assert not any(table["malformed"].to_pylist()) and not table["ts"].null_count
            rows += table.drop(["malformed", "ts_text"]).to_pylist()
    found = [
        (row["user_id"], row["track_id"], f"{row['ts']:%Y-%m-%d %H:%M:%S}", row["event_type"])
        + ((row["duration_ratio"],) if row["duration_ratio"] is not None else ())
        + ((row["session_id"],) if row["session_id"] is not None else ())
        for row in rows
    ]
    return sorted(found)
