"""The stages of the shards job: hash files, decode them, copy small shards together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from session import stage_progress

from htcl.config import PipelineConfig
from htcl.logs import get_logger
from htcl.plan import audio_root
from htcl.schemas import SHARDS
from htcl.shards.blocks import HASHES, RESULTS, pack, unpack
from htcl.shards.compaction import groups_to_copy, moved
from htcl.shards.state import shard_folder, shard_sizes
from htcl.shards.tasks import Decoding, copy_songs, decode_tracks, hash_files
from htcl.shards.work import Work, decoded_rows, limits_of, refused_rows, reused_rows, task_groups

LOGGER = get_logger("shards")
ROUND_SONGS_PER_CORE = 5_000
"""Songs of a round, over the cores: what a driver that dies loses, a quarter of an hour of decoding, and how many
results the driver collects at once."""


@dataclass(frozen=True)
class Round:
    """What became of some of the tracks that had to be looked at.

    Attributes:
        reused, decoded: rows of SHARDS.
        refused: rows of REFUSED_AUDIO.
        warnings: how often each was given.
    """

    reused: pa.Table
    decoded: pa.Table
    refused: pa.Table
    warnings: Counter[str]


def rounds(spark: SparkSession, config: PipelineConfig, work: Work) -> Iterator[Round]:
    """Look at the tracks that have to be looked at, a bounded number at a time."""
    songs = ROUND_SONGS_PER_CORE * spark.sparkContext.defaultParallelism
    for first in range(0, len(work.todo), songs):
        tracks = work.todo.slice(first, songs)
        reused = reuse(spark, config, work.known, tracks)
        todo = tracks.filter(pc.invert(pc.is_in(tracks["track_id"], value_set=reused["track_id"].combine_chunks())))
        results = decode(spark, config, todo)
        warnings = Counter(pc.list_flatten(results["warnings"]).to_pylist())
        yield Round(reused, decoded_rows(results, todo), refused_rows(results, todo, limits_of(config)), warnings)


def reuse(spark: SparkSession, config: PipelineConfig, known: pa.Table, tracks: pa.Table) -> pa.Table:
    """Rows of SHARDS for tracks whose file was decoded before, under another name or with another change tag."""
    if not len(known):
        return SHARDS.empty_table()
    root, groups = audio_root(config), _groups(spark, config, tracks)
    hashes = unpack(_on_tasks(spark, "hash", groups, lambda group: hash_files(group, root)), HASHES)
    return reused_rows(known, hashes, tracks, config.audio)


def decode(spark: SparkSession, config: PipelineConfig, todo: pa.Table) -> pa.Table:
    """Rows of RESULTS for tracks that have to be decoded."""
    job = Decoding(
        audio_root(config), shard_folder(config.workspace), config.audio, limits_of(config), _max_bytes(config)
    )
    groups = _groups(spark, config, todo)
    return unpack(_on_tasks(spark, "decode", groups, lambda group: decode_tracks(group, job)), RESULTS)


def compact(spark: SparkSession, config: PipelineConfig, rows: pa.Table) -> tuple[pa.Table, int]:
    """Copy small leftovers together; the index, and how many shards were left behind."""
    groups, folder = (
        groups_to_copy(rows, shard_sizes(config.workspace), _max_bytes(config)),
        shard_folder(config.workspace),
    )
    blocks = _on_tasks(spark, "compact", [pack(group) for group in groups], lambda group: copy_songs(group, folder))
    old = {shard for group in groups for shard in pc.unique(group["shard"]).to_pylist()}
    return moved(rows, groups, unpack(blocks, RESULTS)), len(old)


def _on_tasks(spark: SparkSession, what: str, groups: list[bytes], run: Callable[[bytes], bytes]) -> list[bytes]:
    """Run each group as a task of its own; results in the order of the groups."""
    if not groups:
        return []

    def run_all(blocks: Iterator[bytes]) -> Iterator[bytes]:
        return map(run, blocks)

    with stage_progress(spark, LOGGER, what):
        return spark.sparkContext.parallelize(groups, len(groups)).mapPartitions(run_all).collect()


def _groups(spark: SparkSession, config: PipelineConfig, tracks: pa.Table) -> list[bytes]:
    audio = config.audio
    song_bytes = 2 * audio.n_mels * audio.max_seconds * audio.sample_rate / audio.hop_length
    return task_groups(tracks, spark.sparkContext.defaultParallelism, max(1, int(_max_bytes(config) / song_bytes)))


def _max_bytes(config: PipelineConfig) -> int:
    return int(config.shards.max_mb * 1e6)
