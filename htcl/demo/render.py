"""One song from truth to audio file: the work of one process of the pool."""

from pathlib import Path

from htcl.demo.composition import compose
from htcl.demo.encode import write_audio
from htcl.demo.factors import rng_for
from htcl.demo.songs import Song
from htcl.demo.synthesis import Waveform, master, render


def synthesise(song: Song, seed: int) -> Waveform:
    """The waveform of a song at 16 kHz, shape (samples,); a function of its arguments."""
    notes, hits = compose(song.factors, rng_for(seed, "composition", song.composition), song.duration_s)
    mix = render(notes, hits, song.duration_s)
    return master(mix, song.factors, rng_for(seed, "master", song.index))


def write_song(root: Path, song: Song, seed: int) -> None:
    """Write the audio file of a song under `root`, damaged where the song is marked so."""
    path = root / song.audio_path
    path.parent.mkdir(parents=True, exist_ok=True)
    if song.damage == "not_audio":
        path.write_text("404 Not Found: the song that should be here was never uploaded.\n" * 20)
        return
    write_audio(path, synthesise(song, seed))
    if song.damage == "truncated":
        # Long enough for the headers, too short for one frame of audio.
        path.write_bytes(path.read_bytes()[:900])
