"""The factors of a song: told in its text, heard only in its sound, or hidden from both."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Meter:
    """A bar as a grid: `beats` per bar, `steps` per beat (the finest note value of the meter)."""

    beats: int
    steps: int


@dataclass(frozen=True)
class Genre:
    """What is usual in a genre. `bpm` is the range of beats per minute; `meters` are equally likely."""

    meters: tuple[str, ...]
    bpm: tuple[float, float]
    instruments: tuple[str, ...]
    moods: tuple[str, ...]
    modes: tuple[str, str]  # the major-like and the minor-like mode


@dataclass(frozen=True)
class Mood:
    """How a mood is played.

    `minor` is the probability of a minor-like mode, `pace` the place in the genre's range of tempo (0..1),
    `register` a shift of the melody in semitones, `density` the probability of a note on a weak half-beat,
    `articulation` the sounding share of a note's length.
    """

    minor: float
    pace: float
    register: int
    density: float
    articulation: float


@dataclass(frozen=True)
class Factors:
    """All factors of one song. The heard ones lie in [-1, 1] and are drawn independently of all others."""

    genre: str
    instrument: str
    mood: str
    meter: str
    bpm: float
    mode: str
    key: int  # pitch class of the tonic, 0 = C
    brightness: float
    hiss: float
    bass: float
    pulse: float
    scene: str


METERS = {
    "3/4": Meter(3, 2),
    "4/4": Meter(4, 4),
    "2/4": Meter(2, 4),
    "6/8": Meter(2, 3),
    "12/8": Meter(4, 3),
}
MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
}
INSTRUMENTS = ("harp", "piano", "flute", "violin", "guitar", "organ", "synth", "trumpet", "marimba")
MOODS = {
    "joyful": Mood(minor=0.05, pace=0.75, register=3, density=0.6, articulation=0.6),
    "melancholy": Mood(minor=0.95, pace=0.15, register=-4, density=0.25, articulation=1.0),
    "calm": Mood(minor=0.2, pace=0.2, register=-1, density=0.15, articulation=1.0),
    "tense": Mood(minor=0.95, pace=0.7, register=-2, density=0.75, articulation=0.45),
    "dreamy": Mood(minor=0.4, pace=0.3, register=6, density=0.35, articulation=1.3),
    "energetic": Mood(minor=0.3, pace=0.95, register=1, density=0.85, articulation=0.7),
}
GENRES = {
    "folk": Genre(
        ("3/4", "6/8"),
        (72, 150),
        ("guitar", "violin", "flute"),
        ("joyful", "melancholy", "dreamy", "calm"),
        ("major", "dorian"),
    ),
    "techno": Genre(
        ("4/4",), (112, 144), ("synth", "organ"), ("tense", "energetic", "dreamy"), ("mixolydian", "minor")
    ),
    "blues": Genre(
        ("12/8", "4/4"),
        (62, 120),
        ("guitar", "piano", "trumpet"),
        ("melancholy", "tense", "calm"),
        ("mixolydian", "dorian"),
    ),
    "lullaby": Genre(
        ("3/4", "6/8"),
        (52, 84),
        ("harp", "flute", "marimba"),
        ("calm", "dreamy", "melancholy"),
        ("major", "minor"),
    ),
    "march": Genre(
        ("2/4",),
        (92, 132),
        ("trumpet", "flute", "organ"),
        ("joyful", "tense", "energetic"),
        ("major", "minor"),
    ),
    "samba": Genre(
        ("2/4",),
        (84, 128),
        ("guitar", "marimba", "trumpet"),
        ("joyful", "energetic", "melancholy"),
        ("major", "minor"),
    ),
    "ambient": Genre(
        ("4/4", "3/4"),
        (48, 78),
        ("synth", "piano", "violin"),
        ("calm", "dreamy", "tense"),
        ("major", "dorian"),
    ),
    "rock": Genre(
        ("4/4", "12/8"),
        (88, 168),
        ("guitar", "organ", "piano"),
        ("energetic", "tense", "joyful", "melancholy"),
        ("mixolydian", "minor"),
    ),
}
HEARD = ("brightness", "hiss", "bass", "pulse")
SCENES = ("harbour", "rooftop", "campus", "railway", "orchard")


def rng_for(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """A generator that depends on its arguments only, so that no draw depends on the order of the work."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])


def tempo_of(bpm: float) -> str:
    """The class of a tempo in beats per minute: slow, medium or fast."""
    if bpm < 84:
        return "slow"
    return "medium" if bpm < 116 else "fast"


def sample_heard(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Heard factors of `count` songs, shape (count, 4) in the order of HEARD.

    Shaped like a U over [-1, 1]: most songs lie clearly on one side, which is what makes taste recoverable.
    """
    return 2 * rng.beta(0.6, 0.6, size=(count, len(HEARD))) - 1


def sample_instrument(rng: np.random.Generator, genre: str, without: str = "") -> str:
    """A lead instrument: one usual in the genre is four times as likely as another; never `without`."""
    usual = GENRES[genre].instruments
    weights = np.array([(4.0 if name in usual else 1.0) * (name != without) for name in INSTRUMENTS])
    return INSTRUMENTS[rng.choice(len(INSTRUMENTS), p=weights / weights.sum())]


def sample_factors(rng: np.random.Generator, genre: str, heard: NDArray[np.float64]) -> Factors:
    """The factors of a song of `genre` whose heard factors (shape (4,)) are given."""
    usual = GENRES[genre]
    mood = str(rng.choice(usual.moods))
    slow, fast = usual.bpm
    pace = np.clip(MOODS[mood].pace + rng.normal(0, 0.15), 0, 1)
    brightness, hiss, bass, pulse = (float(value) for value in heard)
    return Factors(
        genre=genre,
        instrument=sample_instrument(rng, genre),
        mood=mood,
        meter=str(rng.choice(usual.meters)),
        bpm=round(float(slow + pace * (fast - slow)), 1),
        mode=usual.modes[int(rng.random() < MOODS[mood].minor)],
        key=int(rng.integers(12)),
        brightness=brightness,
        hiss=hiss,
        bass=bass,
        pulse=pulse,
        scene=str(rng.choice(SCENES)),
    )
