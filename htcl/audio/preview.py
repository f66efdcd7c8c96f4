"""Short MP3 previews, small enough to stand inside an HTML report as data URIs."""

from io import BytesIO

import av
import numpy as np
from numpy.typing import NDArray

BIT_RATE = 32_000
_FADE_SECONDS = 0.5
# The preview starts where a tenth of the peak is reached first: past silence and recording noise.
_ONSET_SHARE_OF_PEAK = 0.1


def encode_preview(samples: NDArray[np.float32], sample_rate: int, seconds: float = 12.0) -> bytes:
    """Encode an excerpt as mono MP3 at 32 kbit/s, faded in and out, without the leading silence.

    Args:
        samples: float32 [n], mono, full scale 1.0; at least one.
        sample_rate: in Hz, one that MP3 knows (8, 11.025, 12, 16, 22.05, 24, 32, 44.1, 48 kHz).
        seconds: length of the excerpt; a shorter recording is taken whole.

    Returns:
        The bytes of an MP3 file, about 4 kB per second.
    """
    excerpt = _faded(_excerpt(samples, round(seconds * sample_rate)), sample_rate)
    pcm = (np.clip(excerpt, -1.0, 1.0) * 32767).astype(np.int16)
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=sample_rate, layout="mono", bit_rate=BIT_RATE)
        frame = av.AudioFrame.from_ndarray(pcm[None, :], format="s16p", layout="mono")
        frame.sample_rate = sample_rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _excerpt(samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    level = np.abs(samples)
    onset = int(np.argmax(level >= _ONSET_SHARE_OF_PEAK * level.max()))
    start = max(0, min(onset, len(samples) - length))
    return samples[start : start + length]


def _faded(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    length = min(round(_FADE_SECONDS * sample_rate), len(samples) // 2)
    gain = np.ones(len(samples), np.float32)
    gain[:length] = np.linspace(0.0, 1.0, length)
    gain[len(samples) - length :] = np.linspace(1.0, 0.0, length)
    return samples * gain
