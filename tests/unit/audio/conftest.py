"""Small audio files, written through PyAV."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

# file suffix -> (FFmpeg muxer, encoder, sample format, sample rate that the encoder takes)
FORMATS = {
    "wav": ("wav", "pcm_s16le", "s16", 44_100),
    "flac": ("flac", "flac", "s16", 44_100),
    "mp3": ("mp3", "mp3", "fltp", 44_100),
    "ogg": ("ogg", "vorbis", "fltp", 44_100),
    "opus": ("ogg", "libopus", "flt", 48_000),
    "m4a": ("ipod", "aac", "fltp", 44_100),
}

Writer = Callable[..., Path]


def chirp(seconds: float, sample_rate: int, amplitude: float = 0.5) -> np.ndarray:
    """A sine that rises from 200 Hz to 2 kHz, so that a shift in time shows; float32 [n]."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * (200 * time + 900 * time**2 / seconds))).astype(np.float32)


@pytest.fixture
def write_audio(tmp_path: Path) -> Writer:
    def write(suffix: str, channels: np.ndarray, name: str = "song", muxer_options: dict | None = None) -> Path:
        """Encode float32 [channels, n] (or [n] for mono) at the format's rate of FORMATS."""
        muxer, codec, sample_format, rate = FORMATS[suffix]
        channels = np.atleast_2d(channels)
        if codec == "vorbis" and len(channels) == 1:
            channels = np.repeat(channels, 2, axis=0)  # FFmpeg's own encoder takes stereo only
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(channels)]
        path = tmp_path / f"{name}.{suffix}"
        to_encoder_format = av.AudioResampler(sample_format, layout, rate)
        with av.open(str(path), "w", format=muxer, options=muxer_options or {}) as container:
            stream = container.add_stream(codec, rate=rate, layout=layout, options={"strict": "experimental"})
            for start in range(0, channels.shape[1], rate):
                block = np.ascontiguousarray(channels[:, start : start + rate])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate = rate
                frame.pts = start
                for converted in to_encoder_format.resample(frame):
                    container.mux(stream.encode(converted))
            container.mux(stream.encode(None))
        return path

    return write
