"""A song's notes from its factors: chords, melody, bass and drums. Knows nothing of sound."""

from dataclasses import dataclass
from itertools import count

import numpy as np

from htcl.demo.factors import METERS, MODES, MOODS, Factors


@dataclass(frozen=True)
class Note:
    """One note. `onset` and `duration` in seconds, `pitch` in MIDI numbers, `velocity` a linear gain."""

    onset: float
    duration: float
    pitch: int
    velocity: float
    instrument: str


@dataclass(frozen=True)
class Hit:
    """One stroke of a drum (kick, snare or hat) at `onset` seconds."""

    onset: float
    drum: str
    velocity: float


@dataclass(frozen=True)
class Style:
    """How a genre accompanies: instrument and texture of the chords, texture of the bass."""

    instrument: str
    chords: str  # pad, offbeat, arpeggio or pulse
    bass: str  # bar, beat or half


STYLES = {
    "folk": Style("guitar", "offbeat", "bar"),
    "techno": Style("synth", "offbeat", "half"),
    "blues": Style("piano", "pulse", "beat"),
    "lullaby": Style("harp", "arpeggio", "bar"),
    "march": Style("trumpet", "offbeat", "beat"),
    "samba": Style("guitar", "arpeggio", "beat"),
    "ambient": Style("organ", "pad", "bar"),
    "rock": Style("guitar", "pulse", "half"),
}
# Where instruments are at home, in semitones from the written melody.
REGISTERS = {"flute": 12, "marimba": 12, "guitar": -12, "organ": -12}
# One character per step of the meter's grid; genres that are absent have no drums.
DRUMS = {
    ("folk", "3/4"): {"kick": "x.....", "hat": "..x.x."},
    ("folk", "6/8"): {"kick": "x.....", "hat": "x..x.x"},
    ("techno", "4/4"): {"kick": "x...x...x...x...", "hat": "..x...x...x...xx", "snare": "....x.......x..."},
    ("blues", "12/8"): {"kick": "x.....x.....", "snare": "...x.....x..", "hat": "x.xx.xx.xx.x"},
    ("blues", "4/4"): {"kick": "x.......x.......", "snare": "....x.......x...", "hat": "x...x...x...x..."},
    ("march", "2/4"): {"kick": "x...x...", "snare": "x.xxx.x."},
    ("samba", "2/4"): {"kick": "x..xx..x", "hat": "xxxxxxxx", "snare": "..x..x.x"},
    ("rock", "4/4"): {"kick": "x.....x.x.......", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
    ("rock", "12/8"): {"kick": "x.....x.x...", "snare": "...x.....x..", "hat": "x.xx.xx.xx.x"},
}
PROGRESSIONS = (
    (0, 3, 4, 0),
    (0, 5, 3, 4),
    (0, 4, 5, 3),
    (0, 2, 3, 4),
    (5, 3, 0, 4),
    (0, 3, 0, 4),
)
BLUES = (0, 0, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4)


def compose(factors: Factors, rng: np.random.Generator, duration_s: float) -> tuple[list[Note], list[Hit]]:
    """Notes and drum strokes that begin within `duration_s` seconds.

    A cover is composed with a generator in the same state, so it has the melody and chords of the original.
    """
    meter = METERS[factors.meter]
    step_s = 60 / factors.bpm / meter.steps
    steps = meter.beats * meter.steps
    chords = BLUES if factors.genre == "blues" else PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    phrases = [_motif(factors, rng) for _ in range(2)]
    form = (0, 0, 1, 0)
    notes: list[Note] = []
    hits: list[Hit] = []
    for bar in count():
        start = bar * steps * step_s
        if start >= duration_s:
            break
        root = chords[bar % len(chords)]
        notes += _melody(factors, phrases[form[bar // 2 % 4]][bar % 2], root, start)
        notes += _accompaniment(factors, root, start) + _bass(factors, root, start)
        hits += _drums(factors, start)
    return [n for n in notes if n.onset < duration_s], [h for h in hits if h.onset < duration_s]


def _pitch(factors: Factors, degree: int, octave: int) -> int:
    """MIDI pitch of a scale degree (0 = tonic, may exceed the octave) above the tonic of `octave`."""
    scale = MODES[factors.mode]
    return 12 * (octave + 1 + degree // 7) + factors.key + scale[degree % 7]


def _motif(factors: Factors, rng: np.random.Generator) -> list[list[tuple[int, int, int]]]:
    """Two bars of (step, length in steps, degree over the chord), a random walk that leans on chord tones."""
    meter = METERS[factors.meter]
    density = MOODS[factors.mood].density
    half = max(1, meter.steps // 2)
    degree = int(rng.choice([0, 2, 4]))
    bars = []
    for _ in range(2):
        onsets = []
        for step in range(0, meter.beats * meter.steps, half):
            strong = step % meter.steps == 0
            chance = 1.0 if step == 0 else density + 0.45 * strong
            if rng.random() < chance:
                degree = int(np.clip(degree + rng.choice([-2, -1, 0, 1, 2]), -3, 7))
                # Chord tones are the even degrees of the triad; strong beats prefer them.
                onsets.append((step, degree - degree % 2 if strong else degree))
        ends = [step for step, _ in onsets[1:]] + [meter.beats * meter.steps]
        bars.append([(step, end - step, tone) for (step, tone), end in zip(onsets, ends, strict=True)])
    return bars


def _melody(factors: Factors, motif: list[tuple[int, int, int]], root: int, start: float) -> list[Note]:
    mood = MOODS[factors.mood]
    step_s = 60 / factors.bpm / METERS[factors.meter].steps
    # Above degree 3 the chord's inversion an octave lower keeps the melody in one register.
    base = root if root < 4 else root - 7
    shift = mood.register + REGISTERS.get(factors.instrument, 0) - 3
    return [
        Note(
            start + step * step_s,
            length * step_s * mood.articulation,
            _pitch(factors, base + degree, 5) + shift,
            1.3 if step == 0 else 1.0,
            factors.instrument,
        )
        for step, length, degree in motif
    ]


def _accompaniment(factors: Factors, root: int, start: float) -> list[Note]:
    style, meter = STYLES[factors.genre], METERS[factors.meter]
    beat_s = 60 / factors.bpm
    triad = [_pitch(factors, root + third, 3) - 3 for third in (0, 2, 4)]
    if style.chords == "pad":
        return [Note(start, meter.beats * beat_s, pitch, 0.5, style.instrument) for pitch in triad]
    if style.chords == "arpeggio":
        halves = 2 * meter.beats
        return [
            Note(start + i * beat_s / 2, beat_s, triad[(0, 1, 2, 1)[i % 4]] + 12, 0.5, style.instrument)
            for i in range(halves)
        ]
    first = 1 if style.chords == "offbeat" and meter.beats == 3 else 0
    late = beat_s / 2 if style.chords == "offbeat" and meter.beats != 3 else 0.0
    return [
        Note(start + beat * beat_s + late, 0.45 * beat_s, pitch, 0.4, style.instrument)
        for beat in range(first, meter.beats)
        for pitch in triad
    ]


def _bass(factors: Factors, root: int, start: float) -> list[Note]:
    texture, meter = STYLES[factors.genre].bass, METERS[factors.meter]
    beat_s = 60 / factors.bpm
    count_of = {"bar": 1, "beat": meter.beats, "half": 2 * meter.beats}[texture]
    length = meter.beats * beat_s / count_of
    # The tonic lies between C1 and B1 (33 to 62 Hz): everything under 150 Hz is bass, in every key.
    return [
        Note(
            start + i * length,
            0.95 * length,
            _pitch(factors, root + (4 if i % 4 == 2 else 0), 1),
            0.8,
            "bass",
        )
        for i in range(count_of)
    ]


def _drums(factors: Factors, start: float) -> list[Hit]:
    step_s = 60 / factors.bpm / METERS[factors.meter].steps
    pattern = DRUMS.get((factors.genre, factors.meter), {})
    return [
        Hit(start + step * step_s, drum, 0.9 if step == 0 else 0.6)
        for drum, line in pattern.items()
        for step, mark in enumerate(line)
        if mark == "x"
    ]
