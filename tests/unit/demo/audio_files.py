from pathlib import Path

import av
import numpy as np


def read_audio(path: Path) -> np.ndarray:
    """Mono samples at 16 kHz, shape (samples,)."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=16_000)
    with av.open(str(path)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])
