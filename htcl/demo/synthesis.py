"""Notes to a waveform: additive and FM tones, drums, and the mastering that carries the heard factors."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from htcl.demo.composition import Hit, Note
from htcl.demo.factors import Factors, rng_for

SAMPLE_RATE = 16_000
TONE_S = 3.0  # the longest note
HISS_HZ = 5700.0  # hiss lies above
Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class Timbre:
    """An instrument's tone.

    `partials` are (frequency ratio, amplitude); `attack_s` and `decay_s` in seconds, a `decay_s` of 0 means
    sustained; `damping` shortens the decay of upper partials; `vibrato` in share of the pitch; `fm` is the
    modulation index, which replaces the partials where it is not 0; `breath` is the level of noise.
    """

    partials: tuple[tuple[float, float], ...]
    attack_s: float
    decay_s: float = 0.0
    damping: float = 0.0
    vibrato: float = 0.0
    fm: float = 0.0
    breath: float = 0.0
    gain: float = 1.0


def _series(amplitudes: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    return tuple((float(k), a) for k, a in enumerate(amplitudes, start=1) if a)


TIMBRES = {
    "harp": Timbre(_series((1, 0.5, 0.25, 0.12, 0.06)), 0.004, 0.9, 0.5),
    "piano": Timbre(tuple((k * (1 + 0.0004 * k * k), 0.9 ** (k * k / 4) / k) for k in range(1, 9)), 0.006, 0.6, 0.3),
    "flute": Timbre(_series((1, 0.25, 0.08)), 0.07, vibrato=0.004, breath=0.06),
    "violin": Timbre(_series(tuple(1 / k for k in range(1, 13))), 0.12, vibrato=0.007),
    "guitar": Timbre(
        _series(tuple(abs(float(np.sin(0.23 * np.pi * k))) * 1.6 / k for k in range(1, 13))),
        0.003,
        0.45,
        0.25,
    ),
    "organ": Timbre(((0.5, 0.6), (1, 1), (2, 0.8), (3, 0.5), (4, 0.6), (6, 0.3), (8, 0.4)), 0.02, gain=0.6),
    "synth": Timbre(tuple((k * d, 0.5 / k) for k in range(1, 11) for d in (0.996, 1.004)), 0.01, 2.5, gain=0.8),
    "trumpet": Timbre(_series((1,)), 0.04, fm=3.0, vibrato=0.003),
    "marimba": Timbre(((1, 1), (3.93, 0.35), (9.6, 0.12)), 0.002, 0.22, 0.4, gain=1.5),
    "bass": Timbre(_series((1, 0.4, 0.15)), 0.015, 1.5, gain=1.2),
}
DRUM_GAIN = {"kick": 0.9, "snare": 0.35, "hat": 0.15}


@lru_cache(maxsize=512)
def tone(instrument: str, pitch: int) -> Waveform:
    """A note of TONE_S seconds, shape (samples,), with a level alike over instruments."""
    timbre = TIMBRES[instrument]
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    t = np.arange(int(TONE_S * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    wobble = timbre.vibrato / (2 * np.pi * 5.5) * np.sin(2 * np.pi * 5.5 * t)
    phase = (2 * np.pi * frequency * (t + wobble)).astype(np.float32)
    if timbre.fm:
        index = timbre.fm * (0.5 + 0.5 * np.exp(-3 * t))
        wave = np.sin(phase + index * np.sin(phase))
    else:
        wave = np.zeros_like(t)
        for ratio, amplitude in timbre.partials:
            if ratio * frequency < 7600:
                rate = (1 + timbre.damping * (ratio - 1)) / timbre.decay_s if timbre.decay_s else 0.0
                wave += amplitude * np.exp(-rate * t) * np.sin(ratio * phase)
    noise = rng_for(pitch, instrument).standard_normal(len(t), dtype=np.float32)
    wave = (wave + timbre.breath * noise) * np.minimum(1, t / timbre.attack_s)
    level = float(np.sqrt(np.mean(wave[: SAMPLE_RATE // 2] ** 2)))
    return np.asarray(0.3 * timbre.gain / level * wave, dtype=np.float32)


@lru_cache(maxsize=8)
def drum(name: str) -> Waveform:
    """One stroke of a drum, shape (samples,)."""
    t = np.arange(int(0.25 * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    noise = rng_for(0, name).standard_normal(len(t), dtype=np.float32)
    if name == "kick":
        wave = np.sin(2 * np.pi * (50 * t + 70 * 0.03 * (1 - np.exp(-t / 0.03)))) * np.exp(-t / 0.08)
    elif name == "snare":
        wave = (noise + np.sin(2 * np.pi * 185 * t)) * np.exp(-t / 0.05)
    else:
        # A difference of noise is brighter than noise.
        wave = np.diff(noise, prepend=np.float32(0)) * np.exp(-t / 0.025)
    return np.asarray(DRUM_GAIN[name] * wave, dtype=np.float32)


def render(notes: list[Note], hits: list[Hit], duration_s: float) -> Waveform:
    """The dry mix of `duration_s` seconds, shape (samples,)."""
    mix = np.zeros(round(duration_s * SAMPLE_RATE), dtype=np.float32)
    release = np.linspace(1, 0, SAMPLE_RATE // 20, dtype=np.float32)
    for note in notes:
        length = min(max(note.duration, 0.08), TONE_S)
        wave = note.velocity * tone(note.instrument, note.pitch)[: int(length * SAMPLE_RATE)]
        wave[-len(release) :] *= release
        _add(mix, wave, note.onset)
    for hit in hits:
        _add(mix, hit.velocity * drum(hit.drum), hit.onset)
    return mix


def _add(mix: Waveform, wave: Waveform, onset_s: float) -> None:
    start = int(onset_s * SAMPLE_RATE)
    room = mix[start : start + len(wave)]
    room += wave[: len(room)]


def master(mix: Waveform, factors: Factors, rng: np.random.Generator) -> Waveform:
    """The finished song, shape (samples,), peak 0.9: the heard factors are set here, for all genres alike.

    Brightness tilts the spectrum above 300 Hz, bass is a shelf below 150 Hz, hiss is steady noise above
    5.7 kHz, pulse is a tremolo of the whole at a rate that follows the beat.
    """
    # A multiple of one second has small prime factors, which the FFT wants.
    size = -(-len(mix) // SAMPLE_RATE) * SAMPLE_RATE
    spectrum = np.fft.rfft(mix, size)
    hz = np.linspace(0, SAMPLE_RATE / 2, len(spectrum), dtype=np.float32)
    spectrum *= _equaliser(factors, hz)
    band = hz > HISS_HZ
    power = float(np.sum(np.abs(spectrum) ** 2)) * 10 ** ((-34 + 18 * factors.hiss) / 10)
    phase = 2 * np.pi * rng.random(int(band.sum()), dtype=np.float32)
    spectrum[band] += np.float32(np.sqrt(power / len(phase))) * np.exp(1j * phase)
    wave = np.fft.irfft(spectrum, size)[: len(mix)] * _tremolo(factors, len(mix))
    return np.asarray(0.9 / np.abs(wave).max() * wave, dtype=np.float32)


def _equaliser(factors: Factors, hz: Waveform) -> Waveform:
    """Linear gain at each frequency, shape as `hz`."""
    grid = np.linspace(0, SAMPLE_RATE / 2, 2000)
    tilt_db = 6 * factors.brightness * np.log2(np.maximum(grid, 300) / 300)
    shelf_db = 20 * factors.bass / (1 + (grid / 150) ** 4)
    # The band of the hiss is kept clear, so that bright songs do not cover it.
    cut_db = 30 / (1 + (HISS_HZ / np.maximum(grid, 1)) ** 40)
    return np.interp(hz, grid, 10 ** ((tilt_db + shelf_db - cut_db) / 20)).astype(np.float32)


def _tremolo(factors: Factors, samples: int) -> Waveform:
    """Gain over time. The rate is the octave of the beat in 1.5 to 3 Hz, slow enough for 96 ms frames."""
    rate = factors.bpm / 60 * 2.0 ** np.ceil(np.log2(1.5 * 60 / factors.bpm))
    t = np.arange(samples, dtype=np.float32) / SAMPLE_RATE
    depth_db = 20 * (1 + factors.pulse)
    swing = 0.5 - 0.5 * np.cos(np.float32(2 * np.pi * rate) * t)
    return np.asarray(np.exp(np.float32(-depth_db * np.log(10) / 20) * swing), dtype=np.float32)
