"""What adapters have in common when they map a row of theirs onto a track."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from htcl.datasets.dataset import Rejected, Track


def malformed(place: str) -> Rejected:
    """A row of a catalog file that cannot be told into its columns."""
    return Rejected("catalog", place, "malformed_row", "more or fewer cells than columns, or no id")


def with_audio(values: dict[str, Any], root: Path, *candidates: str) -> Track | Rejected:
    """A track with the first of several files below the audio root that is there, or why it cannot be had."""
    for name in candidates:
        if name and (root / name).is_file():
            return Track(values | {"audio_path": name})
    seen = f"{candidates[0]} is not below {root}" if any(candidates) else "no file is named"
    return Rejected("audio", str(values["track_id"]), "missing_audio", seen)


def genre_and_tags(genres: Iterable[str], tags: Iterable[str]) -> dict[str, Any]:
    """The first genre as `genre`; the others stand before the tags, nothing twice."""
    found = [word.strip() for word in genres if word.strip()]
    words = dict.fromkeys([*found[1:], *(word.strip() for word in tags if word.strip())])
    return {"genre": found[0] if found else None, "tags": [word for word in words if word not in found[:1]]}


def stable_id(*parts: str) -> str:
    """An id of names, 16 hexadecimal digits: the same on every machine."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def clean(value: Any) -> Any:
    """Text without outer blanks and halves of characters, which Parquet cannot hold; empty text is nothing."""
    if isinstance(value, list):
        return [item for item in map(clean, value) if item is not None]
    return (value.encode(errors="replace").decode().strip() or None) if isinstance(value, str) else value
