"""What brings the shards index up to date with the catalog and its audio, worked out by the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from htcl.audio.checks import WHOLE_SHARE
from htcl.audio.isolated import Limits
from htcl.audio.rejects import RejectReason
from htcl.config import AudioConfig, PipelineConfig, fingerprint
from htcl.schemas import REFUSED_AUDIO, SHARDS
from htcl.shards.blocks import TRACK, pack
from htcl.tables import GrowingTable

_OF_THE_CATALOG = ["source_tag", "split_group", "split"]
_CONTENT = ["shard", "offset", "size", "frames", "content_hash", "file_hash"]
_MAY_PASS = {RejectReason.MISSING_FILE, RejectReason.UNREADABLE, RejectReason.DECODER_CRASH}
"""Reasons that can go without a change of the file that is seen; looking again costs little."""
_OF_LIMITS = {RejectReason.TIME_LIMIT, RejectReason.MEMORY_LIMIT}
SONGS_PER_TASK = 16
"""At least: a task has costs of its own."""
TASKS_PER_CORE = 4


@dataclass(frozen=True)
class Work:
    """The catalog held against what is there.

    Attributes:
        kept: rows of SHARDS that stand for the catalog as it is, with its split group and side.
        known: rows of SHARDS whose bytes another track, or a file that only looks changed, may use.
        refused: rows of REFUSED_AUDIO that hold still.
        todo: rows of the catalog that have to be looked at.
    """

    kept: pa.Table
    known: pa.Table
    refused: pa.Table
    todo: pa.Table


def refused_table(workspace: str) -> GrowingTable:
    """The audio that was refused, and in which state."""
    return GrowingTable(workspace, "refused_audio", REFUSED_AUDIO)


def limits_of(config: PipelineConfig) -> Limits:
    """What decoding one file may take."""
    return Limits(config.audio.decode_seconds, config.audio.decode_memory_mb)


def tagged(catalog: pa.Table, files: Mapping[str, tuple[int, str]], settings: str) -> pa.Table:
    """The catalog with a tag that changes when what a track comes to may do so.

    Args:
        catalog: the checked catalog.
        files: path -> size and change tag, from `htcl.storage.list_files` of the audio root.
        settings: fingerprint of what the log-mel hangs on.
    """
    rows = zip(catalog["audio_path"].to_pylist(), catalog["duration_s"].to_pylist(), strict=True)
    tags = [fingerprint([path, files.get(str(PurePath(path))), seconds, settings]) for path, seconds in rows]
    return catalog.append_column("source_tag", pa.array(tags, pa.string()))


def find_work(catalog: pa.Table, current: pa.Table, refused: pa.Table, shards: list[str], limits: Limits) -> Work:
    """Hold the catalog against the index and what was refused before.

    Args:
        catalog: from `tagged`.
        current: rows of the index that were made by today's settings.
        refused: rows of REFUSED_AUDIO.
        shards: that are there; rows of others are made anew.
        limits: of decoding; what failed by others is tried again.
    """
    known = current.filter(pc.is_in(current["shard"], value_set=pa.array(shards, pa.string())))
    today = catalog.select(["track_id", *_OF_THE_CATALOG])
    kept = known.drop_columns(["split_group", "split"]).join(today, ["track_id", "source_tag"], join_type="inner")
    kept = _one_each(kept.select(SHARDS.names).cast(SHARDS))
    same = pc.fill_null(pc.equal(refused["limits"], str(limits)), True)
    tags = today.select(["track_id", "source_tag"])
    refused = refused.filter(same).join(tags, ["track_id", "source_tag"], join_type="inner")
    refused = _one_each(refused.select(REFUSED_AUDIO.names).cast(REFUSED_AUDIO))
    settled = pa.concat_arrays([*kept["track_id"].chunks, *refused["track_id"].chunks, pa.array([], pa.string())])
    todo = catalog.filter(pc.invert(pc.is_in(catalog["track_id"], value_set=settled)))
    return Work(kept, known, refused, todo)


def task_groups(tracks: pa.Table, cores: int, songs_per_shard: int) -> list[bytes]:
    """Deal tracks out to tasks: enough to keep every core busy, none with much more than fills a shard."""
    wanted = max(TASKS_PER_CORE * cores, -(-len(tracks) // songs_per_shard))
    tasks = max(1, min(len(tracks) // SONGS_PER_TASK, wanted))
    rows = tracks.select(TRACK.names).cast(TRACK)
    # Like cards: each task gets long and short ones.
    dealt = [pa.array(islice(range(len(rows)), first, None, tasks), pa.int64()) for first in range(tasks)]
    return [pack(rows.take(part)) for part in dealt if len(part)]


def reused_rows(known: pa.Table, hashes: pa.Table, todo: pa.Table, audio: AudioConfig) -> pa.Table:
    """Rows of SHARDS for tracks whose file is one that was decoded before, under whatever name.

    A file that the duration in the catalog may show to be cut is left to decoding, which judges it.

    Args:
        known: rows of SHARDS.
        hashes: (track_id, file_hash) of today's files.
        todo: rows of the catalog.
        audio: by which known rows were made.
    """
    content = known.select(_CONTENT).group_by("file_hash", use_threads=False)
    content = content.aggregate([(name, "first") for name in _CONTENT if name != "file_hash"])
    content = content.rename_columns([name.removesuffix("_first") for name in content.column_names])
    found = hashes.join(content, "file_hash", join_type="inner")
    found = found.join(todo.select(["track_id", "duration_s"]), "track_id", join_type="inner")
    wanted = pc.min_element_wise(found["duration_s"], audio.max_seconds, skip_nulls=False)
    seconds = pc.multiply(found["frames"], audio.hop_length / audio.sample_rate)
    whole = pc.greater_equal(seconds, pc.multiply(wanted, WHOLE_SHARE))
    return _rows(found.filter(pc.fill_null(whole, True)).drop_columns("duration_s"), todo)


def decoded_rows(results: pa.Table, todo: pa.Table) -> pa.Table:
    """Rows of SHARDS for the tracks that were decoded."""
    return _rows(results.filter(pc.is_valid(results["shard"])).select(["track_id", *_CONTENT]), todo)


def refused_rows(results: pa.Table, todo: pa.Table, limits: Limits) -> pa.Table:
    """Rows of REFUSED_AUDIO for the tracks that were refused."""
    found = results.filter(pc.is_valid(results["reason"])).select(["track_id", "reason", "detail"])
    of_limits = pc.is_in(found["reason"], value_set=pa.array(_OF_LIMITS, pa.string()))
    found = found.append_column("limits", pc.if_else(of_limits, str(limits), pa.scalar(None, pa.string())))
    found = found.join(todo.select(["track_id", "source_tag"]), "track_id")
    return found.select(REFUSED_AUDIO.names).cast(REFUSED_AUDIO)


def lasting(refused: pa.Table) -> pa.Table:
    """Refusals that hold until the file changes."""
    return refused.filter(pc.invert(pc.is_in(refused["reason"], value_set=pa.array(_MAY_PASS, pa.string()))))


def _one_each(rows: pa.Table) -> pa.Table:
    """One row a track: two runs at once may both have added theirs."""
    rows = rows.append_column("row", pa.array(np.arange(len(rows))))
    first = rows.group_by("track_id").aggregate([("row", "min")])["row_min"]
    return rows.take(first).drop_columns("row")


def _rows(content: pa.Table, todo: pa.Table) -> pa.Table:
    rows = content.join(todo.select(["track_id", *_OF_THE_CATALOG]), "track_id", join_type="inner")
    return rows.select(SHARDS.names).cast(SHARDS)
