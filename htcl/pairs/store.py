"""Where counts lie: one Delta table, a file for each day and bucket of pairs."""

from __future__ import annotations

import re

from htcl.errors import HTCLError
from htcl.parts import Part
from htcl.schemas import PAIR_COUNTS
from htcl.tables import GrowingTable

_BUCKET = re.compile(r"/b(\d+)of(\d+)-")


def pair_table(workspace: str) -> GrowingTable:
    """The counts of all days."""
    return GrowingTable(workspace, "pair_counts", PAIR_COUNTS, partition_by="dt")


def bucket_name(bucket: int, buckets: int) -> str:
    """How the files of a bucket are called."""
    return f"b{bucket:05d}of{buckets:05d}"


def fewest_buckets(parts: list[Part]) -> int:
    """Buckets in which every file lies in one: the least number that any of them was written with."""
    return min((_place(part)[1] for part in parts), default=1)


def in_bucket(part: Part, bucket: int, buckets: int) -> bool:
    """Whether a file belongs to a bucket of `buckets`, at most as many as it was written with."""
    return _place(part)[0] % buckets == bucket


def _place(part: Part) -> tuple[int, int]:
    found = _BUCKET.search(part.path)
    if found is None:
        raise HTCLError(f"table pair_counts: {part.path} is no file of htcl; count the log anew in a fresh workspace")
    return int(found[1]), int(found[2])
