"""What an adapter is: what a data set says of itself, and a function that reads its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from htcl.errors import HTCLError
from htcl.text import TextColumn

Brought = Literal["catalog", "audio", "log"]


@dataclass(frozen=True)
class Source:
    """Where a data set lies.

    Attributes:
        folder: as given by --from.
        subset: one of the data set's subsets, None where it was not named.
    """

    folder: Path
    subset: str | None = None


@dataclass(frozen=True)
class Track:
    """One track; `values` has columns of the catalog contract and the data set's extra ones."""

    values: dict[str, Any]


@dataclass(frozen=True)
class Events:
    """Events under the names of the log contract [n]; `ts` is timestamp[us, UTC]."""

    table: pa.Table


@dataclass(frozen=True)
class Rejected:
    """One row that cannot be used.

    Attributes:
        source: catalog, interactions or audio, as in the pipeline's rejects.
        key: track, or file and line; never a user.
        reason: one word.
        detail: what was seen; no cell of the log, since where cells are shifted any of them may be a user.
    """

    source: str
    key: str
    reason: str
    detail: str


@dataclass(frozen=True)
class LeftOut:
    """Good rows that are not wanted, such as those of a larger subset: counted, not kept."""

    reason: str
    rows: int


@dataclass(frozen=True)
class Missing:
    """Something that the data set has and this folder has not, and what is therefore not in the result."""

    what: str


Found = Track | Events | Rejected | LeftOut | Missing


class MissingInputError(HTCLError):
    """A file or a column that is not there; `prepare` adds what the data set needs and where it comes from."""


@dataclass(frozen=True)
class DataSet:
    """One public data set.

    Attributes:
        name: what the command calls it.
        title: its own name.
        licence: what is known of it.
        citation: of the paper that asks to be cited.
        homepage: where it comes from.
        layout: one line for each file that is read, below --from.
        brings: catalog, audio, log.
        read: reads all of it, in bounded memory for logs.
        audio_root: the folder that audio_path starts from, where there is audio.
        subsets: what --subset can be; none where there is one.
        text_fields: columns that describe a song here.
        positive: event types that count as a positive response, as in `interactions.positive`.
        extra_columns: columns of text beside the contract, which our reader passes over.
        tracks_from_log: tracks are those that the log names; they have no rows of their own.
        check_repeats: refuse a track id that was there; no where the ids are too many to remember.
        notes: what a reader of the result has to know.
        licence_note: what of the licence was not seen, if anything.
    """

    name: str
    title: str
    licence: str
    citation: str
    homepage: str
    layout: tuple[str, ...]
    brings: tuple[Brought, ...]
    read: Callable[[Source], Iterator[Found]]
    audio_root: Callable[[Source], Path] | None = None
    subsets: tuple[str, ...] = ()
    text_fields: tuple[TextColumn, ...] = ()
    positive: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    extra_columns: tuple[str, ...] = ()
    tracks_from_log: bool = False
    check_repeats: bool = True
    notes: tuple[str, ...] = ()
    licence_note: str = ""
