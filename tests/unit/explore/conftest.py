"""A catalog of eight songs in two small spaces, with ears that know a few words, and a client of the page over it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from htcl.config import AudioConfig
from htcl.explore.app import Page, create_app
from htcl.explore.chart import Chart
from htcl.explore.explorer import Explorer
from htcl.explore.guard import allowed_hosts
from htcl.explore.playing import Shelf
from htcl.explore.refusal import Refusal
from htcl.explore.songs import Songs
from htcl.explore.sounds import Decoder, Heard
from htcl.explore.spaces import Point, Spaces
from htcl.schemas import CATALOG

NASTY = '<script>alert("x")</script> & Söhne'
ROWS = [
    ("s0", "Blue Harp", "Ána Lima", "Samba", "pt", ["slow", "harp"], "2001-05-06"),
    ("s1", "Harp of Snow", "Bo", "Samba", "en", ["harp"], "2003"),
    ("s2", "Iron", "Bo", "Rock", "en", ["fast"], "2010-01-01"),
    ("s3", "Étude in Blue", "Ana Reis", "Rock", None, [], None),
    ("s4", "Lullaby", None, None, "en", None, "not a date"),
    ("s5", NASTY, "Bo", "Rock", "en", ["Fast Train"], "2015"),
    ("dir/s6?", "A Slash", "Zoe", "Samba", "pt", ["slow"], "2020"),
    ("s7", "Twin", "Zoe", "", "", ["slow"], "2021"),
]


def catalog() -> pa.Table:
    names = ("track_id", "title", "artist", "genre", "language", "tags", "release_date")
    rows = [dict(zip(names, row, strict=True)) | {"audio_path": f"{number}.wav"} for number, row in enumerate(ROWS)]
    rows[4]["audio_path"] = "../outside.wav"
    return pa.Table.from_pylist(rows, CATALOG)


def on_circle(degrees: list[float]) -> np.ndarray:
    """Unit vectors of the plane, float32 [n, 2]: their cosines can be told from the angles."""
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


MEANING = on_circle([0, 10, 20, 30, 40, 50, 60, 70])
TASTE = np.pad(on_circle([70, 60, 50, 40, 30, 20, 10, 0]), ((0, 0), (0, 1)))


@dataclass
class FakeEars:
    """Every text lies where the first song does; a file is heard unless it holds text."""

    asked: list[str] = field(default_factory=list)

    def words(self, text: str) -> Point:
        self.asked.append(text)
        return Point(MEANING[0], TASTE[0])

    def sound(self, path: str) -> Heard:
        if Path(path).read_bytes().startswith(b"text"):
            raise Refusal("This is not a sound file.", 422)
        return Heard(Point(MEANING[7], TASTE[7]), 12.0, True)


@pytest.fixture
def songs() -> Songs:
    return Songs(catalog())


@pytest.fixture
def spaces(songs: Songs) -> Spaces:
    return Spaces(songs.tracks, MEANING, TASTE)


@pytest.fixture
def audio_root(tmp_path: Path) -> Path:
    """Files of all songs but the third; the fifth one's path leads out of the folder."""
    root = tmp_path / "audio"
    root.mkdir()
    for number in range(len(ROWS)):
        if number != 2:
            (root / f"{number}.wav").write_bytes(b"RIFF" + bytes(range(100)))
    (tmp_path / "outside.wav").write_bytes(b"secret")
    return root


@pytest.fixture
def explorer(songs: Songs, spaces: Spaces, audio_root: Path) -> Explorer:
    shelf = Shelf(str(audio_root), Decoder(AudioConfig()))  # no file here needs it
    return Explorer(songs, spaces, FakeEars(), shelf, Chart(songs, TASTE, {"Rock": 0, "Samba": 1}))


@pytest.fixture
def client(explorer: Explorer) -> TestClient:
    page = Page("A small world", "cafe", "1 May 2025, 10:00 UTC", ["slow harp"], {"Rock": 0, "Samba": 1})
    return TestClient(create_app(explorer, page, allowed_hosts("127.0.0.1")), base_url="http://localhost:8321")
