"""Where the songs of a catalog are found to be played."""

import av
import fsspec
import pytest

from htcl.config import AudioConfig
from htcl.explore.playing import Shelf
from htcl.explore.refusal import Refusal
from htcl.explore.sounds import Decoder
from tests.unit.audio.conftest import chirp, write_audio

__all__ = ["write_audio"]


@pytest.fixture
def decoder():
    made = Decoder(AudioConfig())
    yield made
    made.close()


def test_files_of_this_machine_are_handed_over_as_they_are(tmp_path, decoder):
    for name in ("a.wav", "b.FLAC", "c.opus", "d.m4a"):
        (tmp_path / name).write_bytes(b"x")
    shelf = Shelf(str(tmp_path), decoder)
    assert shelf.file("b.FLAC") == (str(tmp_path / "b.FLAC"), "audio/flac")
    assert shelf.file("c.opus")[1] == "audio/ogg" and shelf.file("d.m4a")[1] == "audio/mp4"
    assert shelf.has("a.wav")


def test_nothing_outside_the_root_is_played(tmp_path, decoder):
    root = tmp_path / "songs"
    root.mkdir()
    (tmp_path / "secret.wav").write_bytes(b"x")
    (root / "link.wav").symlink_to(tmp_path / "secret.wav")
    (root / "folder.wav").mkdir()
    shelf = Shelf(str(root), decoder)
    for path in ("../secret.wav", str(tmp_path / "secret.wav"), "link.wav", "folder.wav", "gone.wav", ""):
        assert not shelf.has(path)
        with pytest.raises(Refusal, match="not there") as refused:
            shelf.file(path)
        assert refused.value.status == 404


def test_files_of_another_machine_are_played_as_an_excerpt(decoder, write_audio):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/songs/a.wav", write_audio("wav", chirp(3, 44_100)).read_bytes())
    memory.pipe_file("/songs/text.wav", b"no sound")
    shelf = Shelf("memory://songs", decoder)
    assert shelf.has("a.wav")
    path, media_type = shelf.file("a.wav")
    assert media_type == "audio/mpeg"
    with av.open(path) as opened:
        assert opened.format.name == "mp3" and opened.duration / av.time_base == pytest.approx(3, abs=0.2)
    assert shelf.file("a.wav")[0] == path
    for path in ("gone.wav", "text.wav", "../a.wav"):
        with pytest.raises(Refusal, match="not there"):
            shelf.file(path)
