"""Finding a data set's files and reading its small tables; every error names the file or the column."""

from __future__ import annotations

import contextlib
import csv
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import fsspec
import pyarrow as pa

from htcl.datasets.dataset import MissingInputError
from htcl.errors import HTCLError

Row = dict[str, str]


def require_file(folder: Path, *names: str) -> Path:
    """The first of several names that is a file, `x.bz2` also unpacked as `x`.

    Raises:
        MissingInputError: when there is none.
    """
    if path := optional_file(folder, *names):
        return path
    raise MissingInputError(f"{folder / names[0]} is not there")


def optional_file(folder: Path, *names: str) -> Path | None:
    """As `require_file`, but None when there is none."""
    spelled = (spelling for name in names for spelling in (name, name.removesuffix(".bz2")))
    return next((folder / name for name in spelled if (folder / name).is_file()), None)


def require_folder(folder: Path, *names: str) -> Path:
    """The first of several names that is a folder.

    Raises:
        MissingInputError: when there is none.
    """
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise MissingInputError(f"{folder / names[0]} is not there, which should be a folder")


def require_columns(path: Path, wanted: Iterable[str], present: Sequence[str]) -> None:
    """Check the columns of a file.

    Raises:
        MissingInputError: naming the file, the column and those there are.
    """
    for name in wanted:
        if name not in present:
            some = ", ".join(present[:12]) + (", …" if len(present) > 12 else "")
            raise MissingInputError(f"{path}: column {name!r} is missing (it has {some})")


@contextlib.contextmanager
def open_text(path: Path, newline: str = "") -> Iterator[io.TextIOWrapper]:
    """Open a file as text, unpacked (bz2, gz), without a byte order mark; bytes that are no UTF-8 become U+FFFD.

    Args:
        path: the file.
        newline: where a line ends, as of `open`.

    Raises:
        HTCLError: when it cannot be opened or read to its end.
    """
    with reading(path), fsspec.filesystem("file").open(str(path), "rb", compression="infer") as handle:
        yield io.TextIOWrapper(handle, encoding="utf-8-sig", errors="replace", newline=newline)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file that cannot be opened or read to its end.

    Raises:
        HTCLError: instead of what csv, pyarrow or the file system raise.
    """
    try:
        yield
    except (csv.Error, pa.ArrowException, EOFError, OSError, zlib.error) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise HTCLError(f"{path} cannot be read to its end: {first}; download it again") from None


def tab_lines(path: Path, quotes: bool = True) -> Iterator[tuple[str, list[str]]]:
    """Yield (file:line, cells) of every line of a tab-separated file that is not blank, the header included.

    Args:
        path: the file.
        quotes: whether a cell may stand in quotes; no where they are part of the text.

    Each line is read alone: a quote that stands open does not swallow the lines after it.
    """
    with open_text(path, newline="\n") as text:
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield f"{path.name}:{number}", _cells(line.rstrip("\r\n"), quotes)


def tab_rows(path: Path, wanted: Iterable[str], quotes: bool = True) -> Iterator[tuple[str, Row | None]]:
    """Yield (file:line, row) of a tab-separated file with a header; None for a row of more or fewer cells.

    Args:
        path: the file.
        wanted: columns that it needs.
        quotes: as of `tab_lines`.

    Raises:
        MissingInputError: when one of them is not there.
    """
    lines = tab_lines(path, quotes)
    header = next(lines, ("", []))[1]
    require_columns(path, wanted, header)
    for place, cells in lines:
        # Empty cells after the last are harmless.
        fits = len(cells) >= len(header) and not any(cells[len(header) :])
        yield place, dict(zip(header, cells, strict=False)) if fits else None


def _cells(line: str, quotes: bool) -> list[str]:
    if quotes and '"' in line:
        with contextlib.suppress(csv.Error):
            return next(csv.reader([line], delimiter="\t", strict=True))
    return line.split("\t")
