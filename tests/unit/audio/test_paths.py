"""Audio paths stay under the audio root."""

from pathlib import Path

import pytest

from htcl.audio.decode import AudioRejected, RejectReason, decode_audio, resolve_audio_path


def test_local_and_remote_roots(tmp_path: Path) -> None:
    assert resolve_audio_path(str(tmp_path), "a/b.ogg") == str(tmp_path / "a" / "b.ogg")
    assert resolve_audio_path(f"file://{tmp_path}", "a/b.ogg") == str(tmp_path / "a" / "b.ogg")
    assert resolve_audio_path("s3://bucket/songs/", "./a//b.ogg") == "s3://bucket/songs/a/b.ogg"


@pytest.mark.parametrize("root", ["/srv/songs", "s3://bucket/songs"])
@pytest.mark.parametrize(
    "path",
    [
        "../x.ogg",
        "a/../../x.ogg",
        "/etc/passwd",
        "",
        ".",
        "a\0.ogg",
        "..\\x.ogg",
        "s3://other/x",
        "http://h/x",
    ],
)
def test_ways_out_are_refused(root: str, path: str) -> None:
    with pytest.raises(AudioRejected) as caught:
        resolve_audio_path(root, path)
    assert caught.value.reason == RejectReason.PATH_TRAVERSAL


def test_symbolic_links(tmp_path: Path) -> None:
    root = tmp_path / "songs"
    (root / "real").mkdir(parents=True)
    (root / "inside").symlink_to(root / "real")
    (root / "outside").symlink_to(tmp_path)
    assert resolve_audio_path(str(root), "inside/a.ogg") == str(root / "real" / "a.ogg")
    with pytest.raises(AudioRejected, match="outside the audio root"):
        resolve_audio_path(str(root), "outside/a.ogg")


def test_a_link_to_itself_and_a_name_that_is_too_long_cost_one_file(tmp_path: Path) -> None:
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    for name in ("loop.wav", "a" * 300 + ".wav"):
        with pytest.raises(AudioRejected) as caught:
            decode_audio(resolve_audio_path(str(tmp_path), name))
        assert caught.value.reason == RejectReason.UNREADABLE
