"""Metadata to the text that the text encoder reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

TextColumn = Literal["title", "artist", "album", "genre", "language", "tags", "release_date"]
"""Columns of the catalog that describe a song; ids and paths are no text."""

DEFAULT_TEXT_FIELDS: tuple[TextColumn, ...] = ("title", "artist", "album", "genre", "language", "tags")
"""Columns that are read as text, in order, unless a configuration names others."""

PROCESSOR_FILE = "preprocessor_config.json"
"""Of a model folder: how it reads audio and text; HTCLProcessor writes it."""


def model_text_fields(folder: Path) -> list[str]:
    """The catalog columns that the model in a folder reads as text, in order; costs no torch, unlike the model."""
    return list(json.loads((folder / PROCESSOR_FILE).read_text())["text_fields"])


def metadata_parts(row: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    """What the metadata of one track says, piece by piece.

    Args:
        row: a catalog row.
        fields: the columns to read, in order; empty ones are passed over.

    Returns:
        The values, a list's items each by itself.
    """
    parts = []
    for name in fields:
        value = row.get(name)
        items = value if isinstance(value, list | tuple) else [value]
        parts += [" ".join(str(item).split()) for item in items if item is not None and str(item).strip()]
    return parts


def metadata_text(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """Concatenate the metadata of one track (the paper's text input), from its `metadata_parts`."""
    return joined_parts(metadata_parts(row, fields))


def joined_parts(parts: Sequence[str]) -> str:
    """The text that some parts make: they are joined by commas."""
    return ", ".join(parts)


def text_hash(text: str) -> str:
    """Hash of a text, 16 hexadecimal digits: a corrected title changes it."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
