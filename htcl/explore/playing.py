"""What a song sounds like: its file, or an excerpt of it where the file lies on another machine."""

from __future__ import annotations

import mimetypes
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from htcl.audio.decode import AudioRejected
from htcl.audio.paths import resolve_audio_path
from htcl.audio.preview import encode_preview
from htcl.audio.source import fetch_audio
from htcl.explore.refusal import Refusal
from htcl.explore.sounds import Decoder

PREVIEW_RATE = 24_000
PREVIEW_SECONDS = 60.0
REMEMBERED_PREVIEWS = 64

GONE = "Its audio is not there."
_TYPES = {".flac": "audio/flac", ".m4a": "audio/mp4", ".mp4": "audio/mp4", ".opus": "audio/ogg", ".oga": "audio/ogg"}
"""Where the tables of systems differ, or name a type that browsers refuse."""


class Shelf:
    """The audio files of a catalog below their root."""

    def __init__(self, audio_root: str, decoder: Decoder) -> None:
        self._root, self._decoder = audio_root, decoder
        self._remembered = lru_cache(REMEMBERED_PREVIEWS)(self._preview)

    def place(self, audio_path: str) -> str | None:
        """Where a file lies, a local path or a URI; None where no file of that name can be below the root."""
        try:
            return resolve_audio_path(self._root, audio_path)
        except AudioRejected:
            return None

    def has(self, audio_path: str) -> bool:
        """Whether there is a file to play; what lies on another machine is not looked for."""
        place = self.place(audio_path)
        return place is not None and ("://" in place or Path(place).is_file())

    def file(self, audio_path: str) -> tuple[str, str]:
        """A file to play, and its media type: the song's own, or its first minute where that lies on another machine.

        Raises:
            Refusal: when it is not there, or is no sound any more.
            HTCLError: when its storage fails.
        """
        place = self.place(audio_path)
        if place is None or not self.has(audio_path):
            raise Refusal(GONE, 404)
        if "://" in place:
            return self._remembered(place).name, "audio/mpeg"
        guessed = mimetypes.guess_type(place)[0] or "application/octet-stream"
        return place, _TYPES.get(Path(place).suffix.lower(), guessed)

    def _preview(self, place: str) -> IO[bytes]:
        """The beginning of a file, as an MP3 that is gone when it is forgotten."""
        try:
            copy = fetch_audio(place)
            try:
                audio = self._decoder.decode(copy.path, PREVIEW_RATE, PREVIEW_SECONDS, 0.0)
            finally:
                copy.close()
        except AudioRejected:
            raise Refusal(GONE, 404) from None
        file = NamedTemporaryFile(prefix="htcl-", suffix=".mp3")  # noqa: SIM115 - stays open while it is remembered
        file.write(encode_preview(audio.samples, audio.sample_rate, PREVIEW_SECONDS))
        file.flush()
        return file
