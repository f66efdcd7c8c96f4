"""Labelled fields of the catalog as classes of songs, for probes and zero-shot tagging."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from htcl.card_config import LabelConfig

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """One field over some songs.

    Attributes:
        field: its name.
        kind: single, multiple or key.
        classes: names of the classes, those with most songs first.
        rows: songs that have a label [m], as rows of what was given.
        member: which classes each of them has [m, classes]; in a single or key field exactly one.
    """

    field: str
    kind: str
    classes: list[str]
    rows: Int64
    member: Bools


def read_labels(field: str, config: LabelConfig, songs: Sequence[dict[str, Any]]) -> Labels | None:
    """The classes of a field.

    A song with several classes of a single field is left out: nobody could be right about it.

    Args:
        field: its name.
        config: where its labels stand.
        songs: catalog rows [n].

    Returns:
        The labels; None where fewer than two classes have enough songs.
    """
    found = [_classes_of(config, song) for song in songs]
    if config.kind != "multiple":
        found = [names if len(names) == 1 else set() for names in found]
    counts = Counter(name for names in found for name in sorted(names))
    often = [name for name, count in counts.most_common(config.max_classes) if count >= config.min_songs]
    if len(often) < 2:
        return None
    place = {name: column for column, name in enumerate(often)}
    member = np.array([[name in names for name in place] for names in found])
    # Of a field with several labels, none of the frequent ones is an answer, too, where the song has any label.
    rows = np.flatnonzero(member.any(axis=1) if config.kind != "multiple" else np.array([bool(n) for n in found]))
    return Labels(field, config.kind, often, rows, member[rows])


def _classes_of(config: LabelConfig, song: dict[str, Any]) -> set[str]:
    value = song[config.column]
    values = [str(each) for each in (value if isinstance(value, list) else [value]) if each]
    if config.column == "release_date":
        values = [f"{each[:3]}0s" for each in values if each[:4].isdigit()]
    if config.prefix:
        values = [each.removeprefix(config.prefix).strip() for each in values if each.startswith(config.prefix)]
    if config.kind == "key":
        return set(values)
    said = {each.lower() for each in values}
    if not config.classes:
        return said
    return {name for name, words in config.classes.items() if said.intersection(words)}
