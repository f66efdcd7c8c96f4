"""Which songs may be asked about: no split group or recording may stand on two sides."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from htcl.errors import HTCLError


def check_groups(index: pa.Table) -> None:
    """See that no split group stands on two sides.

    Raises:
        HTCLError: naming the group.
    """
    sides = (
        index.group_by(["split_group", "split"]).aggregate([]).group_by("split_group").aggregate([("split", "count")])
    )
    shared = sides.filter(pc.greater(sides["split_count"], 1))["split_group"].to_pylist()
    if shared:
        raise HTCLError(f"split: the group {shared[0]!r} stands on two sides; build catalog and shards again")


def on_two_sides(index: pa.Table) -> set[str]:
    """Held-out tracks whose audio is, bit for bit, that of a song on another side."""
    sides = (
        index.group_by(["content_hash", "split"]).aggregate([]).group_by("content_hash").aggregate([("split", "count")])
    )
    twins = sides.filter(pc.greater(sides["split_count"], 1))["content_hash"]
    held_out = pc.not_equal(index["split"], "train")
    return set(
        index.filter(pc.and_(pc.is_in(index["content_hash"], twins.combine_chunks()), held_out))["track_id"].to_pylist()
    )
