"""Write a waveform to an audio file with PyAV."""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from htcl.demo.synthesis import SAMPLE_RATE

# Extension -> container format, codec, layout. FFmpeg's own Vorbis encoder is experimental and stereo only.
CODECS = {
    "flac": ("flac", "flac", "mono"),
    "mp3": ("mp3", "libmp3lame", "mono"),
    "ogg": ("ogg", "vorbis", "stereo"),
    "opus": ("ogg", "libopus", "mono"),
    "m4a": ("ipod", "aac", "mono"),
    "wav": ("wav", "pcm_s16le", "mono"),
}


def write_audio(path: Path, waveform: NDArray[np.float32]) -> None:
    """Write a waveform, shape (samples,) in -1..1 at 16 kHz, in the format of the path's extension.

    Raises:
        ValueError: for an extension that is not in CODECS.
    """
    extension = path.suffix.removeprefix(".")
    if extension not in CODECS:
        raise ValueError(f"{path} has no known audio extension; use one of {', '.join(CODECS)}")
    container_format, codec, layout = CODECS[extension]
    # Without bitexact, muxers write random serial numbers and the same song gets other bytes each time.
    with av.open(str(path), "w", format=container_format, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=SAMPLE_RATE, options={"strict": "experimental"})
        assert isinstance(stream, av.AudioStream)
        stream.layout = layout
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        samples = np.round(waveform * 32767).astype(np.int16)
        interleaved = np.repeat(samples, 1 if layout == "mono" else 2)[None]
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
        frame.sample_rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
