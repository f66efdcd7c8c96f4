"""MP3 previews."""

import io

import numpy as np
import pytest

from htcl.audio.decode import decode_audio
from htcl.audio.preview import encode_preview

from .conftest import chirp


def test_preview_is_small_and_decodes() -> None:
    preview = encode_preview(chirp(30.0, 16_000), 16_000)
    assert len(preview) < 12 * 32_000 / 8 * 1.1
    decoded = decode_audio(io.BytesIO(preview), expected_seconds=12.0)
    assert decoded.seconds == pytest.approx(12.0, abs=0.1)
    assert decoded.warnings == ()


def test_preview_skips_leading_silence_and_fades() -> None:
    samples = np.concatenate([np.zeros(160_000, np.float32), chirp(20.0, 16_000)])
    level = np.abs(decode_audio(io.BytesIO(encode_preview(samples, 16_000, seconds=5.0))).samples)
    assert level[8_000:12_000].max() > 0.4
    assert level[:800].max() < 0.1
    assert level[-800:].max() < 0.1


@pytest.mark.parametrize("samples", [chirp(3.0, 16_000), np.zeros(48_000, np.float32)])
def test_preview_of_a_short_or_silent_recording(samples: np.ndarray) -> None:
    assert len(encode_preview(samples, 16_000)) > 1000
