"""Numbered files of a folder, of which the last one counts."""

from __future__ import annotations

from htcl import storage


def numbered_files(folder: str) -> list[int]:
    """The numbers that there are, in their order."""
    names = storage.list_folder(folder)
    return sorted(int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdigit())


def numbered_uri(folder: str, number: int) -> str:
    """Where the file of a number lies, or would."""
    return storage.join(folder, f"{number:08d}.json")
