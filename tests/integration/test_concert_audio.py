"""The shared concert data set, where it lies beside the checkout: 18 bad entries, and some good ones."""

import json

import pytest

from htcl.audio.decode import AudioRejected, RejectReason, decode_audio, resolve_audio_path

from .harness import CONCERT

pytestmark = pytest.mark.skipif(not CONCERT.is_dir(), reason="no shared/data/concert beside the checkout")


def entries(name: str) -> list[dict]:
    path = CONCERT / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


@pytest.mark.parametrize("with_duration", [True, False])
@pytest.mark.parametrize("entry", entries("broken/broken_catalog.jsonl"), ids=lambda entry: entry["track_id"])
def test_broken_entries(entry: dict, with_duration: bool) -> None:
    expected = RejectReason(entry["expected"])
    expected_seconds = entry["duration_s"] if with_duration else None
    try:
        path = resolve_audio_path(str(CONCERT), entry["audio_path"])
        warnings = decode_audio(path, expected_seconds=expected_seconds).warnings
    except AudioRejected as rejected:
        assert rejected.reason == expected
    else:
        assert expected == RejectReason.CLIPPED
        assert any(warning.startswith("clipped: ") for warning in warnings)


@pytest.mark.parametrize("entry", entries("catalog.jsonl")[::60], ids=lambda entry: entry["track_id"])
def test_good_entries(entry: dict) -> None:
    path = resolve_audio_path(str(CONCERT), entry["audio_path"])
    decoded = decode_audio(path, expected_seconds=entry["duration_s"])
    assert decoded.warnings == ()
    assert decoded.seconds == pytest.approx(entry["duration_s"], abs=0.1)
