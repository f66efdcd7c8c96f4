"""`htcl datasets prepare`: a public data set on disk becomes a folder that the pipeline reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from htcl.datasets.dataset import DataSet, MissingInputError, Source
from htcl.datasets.documents import config_text, source_text
from htcl.datasets.registry import find
from htcl.datasets.summary import Summary, describe, rejected_lines
from htcl.datasets.writing import Writer
from htcl.errors import HTCLError, sentence_of

__all__ = ["CONFIG_FILE", "SOURCE_FILE", "Summary", "describe", "prepare"]

CONFIG_FILE, SOURCE_FILE = "htcl.yaml", "SOURCE.md"


def prepare(name: str, source: Path, target: Path, subset: str | None = None) -> Summary:
    """Map a public data set onto the contracts.

    Args:
        name: of the data set, see `htcl.datasets.registry`.
        source: folder with its files, laid out as `DataSet.layout` says.
        target: folder that is made, whole or not at all; it must not exist or be empty.
        subset: one of the data set's, where it has several.

    Returns:
        What was read and written; `describe` makes text of it.

    Raises:
        HTCLError: an unknown name or subset, a file or column that is not there, nothing that could be used, a target
            that holds something.
    """
    dataset, target = find(name), target.resolve()
    place = _source(dataset, source, subset)
    with _aside(target) as folder:
        writer = _write(dataset, place, folder)
        complete = {"catalog", "audio", "log"} <= set(dataset.brings)
        summary = Summary.of(dataset, writer, target, target / CONFIG_FILE if complete else None)
        _require_something(summary)
        if complete:
            (folder / CONFIG_FILE).write_text(config_text(dataset, place), "utf-8")
        (folder / SOURCE_FILE).write_text(source_text(summary, place), "utf-8")
    return summary


def _source(dataset: DataSet, folder: Path, subset: str | None) -> Source:
    if not folder.is_dir():
        raise HTCLError(f"{folder} is no folder; --from names the one that {dataset.title} lies in")
    if subset is not None and subset not in dataset.subsets:
        there = f"it has {', '.join(dataset.subsets)}" if dataset.subsets else "it has none; leave --subset out"
        raise HTCLError(f"{dataset.name} has no subset {subset!r}; {there}")
    return Source(folder.resolve(), subset)


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A hidden sibling of the target, which becomes it when the block ends without an error."""
    folder = target.with_name(f".{target.name}.{uuid4().hex[:8]}.tmp")
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise HTCLError(f"{target} holds something already; name another folder with --to, or delete it")
        folder.mkdir(parents=True)
        yield folder
        folder.rename(target)
    except OSError as error:
        told = f"{error.filename or target}: {error.strerror or error}; check its permissions, or name another folder"
        raise sentence_of(error) or HTCLError(told) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(dataset: DataSet, source: Source, folder: Path) -> Writer:
    try:
        with Writer(folder, dataset) as writer:
            for found in dataset.read(source):
                writer.take(found)
    except MissingInputError as error:
        layout = "".join(f"\n  {line}" for line in dataset.layout)
        raise HTCLError(
            f"{error}; --from has to be a folder of {dataset.title} with{layout}\n{dataset.title} comes from "
            f"{dataset.homepage}"
        ) from None
    return writer


def _require_something(summary: Summary) -> None:
    counts = {"catalog": (summary.tracks, "track"), "log": (summary.events, "event")}
    for brought, (n, what) in counts.items():
        if brought in summary.dataset.brings and not n:
            reasons = "; ".join(rejected_lines(summary)) or "there are no rows"
            raise HTCLError(f"{summary.dataset.title}: not one {what} can be used: {reasons}; check --from")
