"""What came out of a data set, as figures and as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from htcl.datasets.dataset import DataSet, Rejected
from htcl.datasets.writing import CATALOG_FILE, REJECTS_FILE, TRACKS_FILE, Writer


@dataclass(frozen=True)
class Summary:
    """What was read and written.

    Attributes:
        dataset: the adapter.
        target: the folder that was made.
        tracks: rows of the catalog, or of the tracks.
        events: rows of the log.
        rejected: reason -> rows in rejects.parquet.
        left_out: reason -> good rows that were not wanted.
        missing: what the folder lacked.
        untitled: tracks that have their id for a title.
        undecodable: tracks with text that was no UTF-8.
        examples: reason -> the first row that was rejected for it.
        config: the configuration, where there are catalog, audio and log.
    """

    dataset: DataSet
    target: Path
    tracks: int
    events: int
    rejected: dict[str, int]
    left_out: dict[str, int]
    missing: tuple[str, ...]
    untitled: int
    undecodable: int
    examples: dict[str, Rejected]
    config: Path | None

    @classmethod
    def of(cls, dataset: DataSet, writer: Writer, target: Path, config: Path | None) -> Summary:
        """What a writer has counted."""
        return cls(
            dataset=dataset,
            target=target,
            tracks=writer.tracks,
            events=writer.events,
            rejected=dict(writer.rejected),
            left_out={reason: n for reason, n in writer.left_out.items() if n},
            missing=tuple(writer.missing),
            untitled=writer.untitled,
            undecodable=writer.undecodable,
            examples=dict(writer.examples),
            config=config,
        )

    @property
    def rows(self) -> int:
        """Rows of catalog and log that were read; tracks that only the log names have none of their own."""
        tracks = 0 if self.dataset.tracks_from_log else self.tracks
        return tracks + self.events + sum(self.rejected.values()) + sum(self.left_out.values())


def describe(summary: Summary) -> str:
    """What came out, what is missing, licence and citation; one fact a line."""
    dataset = summary.dataset
    came_out = [f"{summary.tracks:,} tracks"] if "catalog" in dataset.brings else []
    came_out += [f"{summary.events:,} events"] if "log" in dataset.brings else []
    lines = [
        f"{dataset.title}: {summary.rows:,} rows read, {', '.join(came_out)}: {summary.target}",
        *(f"rejected: {line}" for line in rejected_lines(summary)),
        *([f"rejects: {summary.target / REJECTS_FILE}"] if summary.rejected else []),
        *(f"left out: {reason} {n:,}" for reason, n in _counted(summary.left_out)),
        *(f"missing: {what}" for what in (*summary.missing, *_never_there(dataset))),
        *([f"untitled: {summary.untitled:,} tracks have their id for a title"] if summary.untitled else []),
        *([f"encoding: {summary.undecodable:,} tracks had text that is no UTF-8"] if summary.undecodable else []),
        *(f"note: {note}" for note in dataset.notes),
        *([f"configuration: {summary.config}"] if summary.config else []),
        f"licence: {dataset.licence}",
        *([f"licence note: {dataset.licence_note}"] if dataset.licence_note else []),
        f"citation: {dataset.citation}",
        f"homepage: {dataset.homepage}",
    ]
    return "\n".join(lines)


def rejected_lines(summary: Summary) -> list[str]:
    """How many rows were rejected for each reason, most first, with an example."""
    examples = summary.examples
    return [
        f"{reason} {n:,}, such as {examples[reason].key or 'a row'} ({examples[reason].detail})"
        for reason, n in _counted(summary.rejected)
    ]


def _counted(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(((reason, n) for reason, n in counts.items()), key=lambda item: (-item[1], item[0]))


def _never_there(dataset: DataSet) -> list[str]:
    """What the data set itself does not have, and what that means."""
    lacking = []
    if "catalog" not in dataset.brings:
        lacking.append("the data set names no songs and has no audio: whoever has a catalog adds it")
    elif "audio" not in dataset.brings:
        lacking.append(f"the data set has no audio: whoever has it adds audio_path to {TRACKS_FILE}")
    if "log" not in dataset.brings:
        lacking.append(
            f"the data set has no log, so that no configuration is written: {CATALOG_FILE} is for stage 1 and for "
            "semantic evaluation"
        )
    return lacking
