"""Tab-separated logs of any length in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pv

from htcl.datasets.files import open_text, reading, require_columns
from htcl.datasets.logs import LogBatch
from htcl.ingest.log import decoded

BLOCK_BYTES = 1 << 24
"""Text of one batch, unpacked."""


def read_tab_log(path: Path, columns: Mapping[str, str], names: Sequence[str] = ()) -> Iterator[LogBatch]:
    """Read a tab-separated log without quotes, packed (bz2, gz) or not, in batches.

    Args:
        path: the file.
        columns: name in the batch -> column of the file.
        names: all columns, of a file without a header.

    Raises:
        MissingInputError: a column that the file does not have.
        HTCLError: when it cannot be read to its end.
    """
    header = list(names) or _header(path)
    require_columns(path, columns.values(), header)
    refused: list[int] = []

    def refuse(row: pv.InvalidRow) -> str:
        refused.append(row.number)
        return "skip"

    with reading(path), pa.input_stream(str(path), compression="detect") as stream:
        reader = pv.open_csv(
            stream,
            # With threads no row has a number.
            pv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=header, skip_rows=0 if names else 1),
            pv.ParseOptions(
                delimiter="\t", quote_char=False, double_quote=False, ignore_empty_lines=False,
                invalid_row_handler=refuse,
            ),
            pv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.binary()),
                include_columns=list(dict.fromkeys(columns.values())),
                strings_can_be_null=True, null_values=[""], check_utf8=False,
            ),
        )  # fmt: skip
        line = 1 if names else 2
        for batch in reader:
            lines, malformed, line = _places(line, batch.num_rows, refused)
            rows = pa.table({name: decoded(batch[column]) for name, column in columns.items()})
            yield LogBatch(path.name, rows, lines, malformed)
        yield LogBatch(path.name, pa.table({name: pa.array([], pa.string()) for name in columns}), _NONE, refused)


_NONE = np.zeros(0, np.int64)


def _places(line: int, count: int, refused: list[int]) -> tuple[npt.NDArray[np.int64], list[int], int]:
    """Lines of the next `count` rows, those refused before the last of them (taken off `refused`), the line after."""
    span = np.arange(line, line + count + len(refused))
    lines = span[~np.isin(span, refused)][:count]
    after = int(lines[-1]) + 1 if count else line
    before = [number for number in refused if number < after]
    del refused[: len(before)]
    return lines, before, after


def _header(path: Path) -> list[str]:
    with open_text(path) as text:
        return text.readline().rstrip("\r\n").split("\t")
