"""Decode audio to log-mels and write them as WebDataset shards with an index.

Only audio whose bytes are new is decoded, in rounds: what a round brought is known to the next run, whatever becomes
of this one. Refused files land in the rejects table with a reason, and are not opened again before they change. Tracks
with equal audio come into one split group.

    spark-submit jobs/build_shards.py --config CONFIG
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from session import job_parser, run_job, spark_session
from shard_stages import Round, compact, rounds

from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig
from htcl.duplicates import Grouping, group_duplicates
from htcl.errors import HTCLError
from htcl.ingest.rejects import check_reject_share
from htcl.logs import get_logger, log
from htcl.plan import Step, plan
from htcl.schemas import REFUSED_AUDIO, SHARDS
from htcl.shards.index import write_index
from htcl.shards.state import SETTINGS, Index, read_index_table, work_of
from htcl.shards.work import Work, lasting, refused_table
from htcl.tables import replace_rejects

LOGGER = get_logger("shards")


def main(config: PipelineConfig, arguments: argparse.Namespace) -> None:
    """Bring shards, index table and rejects up to the catalog; publish the shards artifact."""
    step = plan(config, inputs=arguments.inputs)["shards"]
    if step.published:
        log(LOGGER, "already published", key=step.key)
        return
    started = time.monotonic()
    with spark_session(config, "build_shards") as spark:
        log(LOGGER, "session started", seconds=time.monotonic() - started)
        publish_shards(spark, config, step)


def publish_shards(spark: SparkSession, config: PipelineConfig, step: Step) -> None:
    """Do what `main` does, in a session."""
    store = ArtifactStore(config.workspace)
    with store.create(step.recipe) as draft:
        index = read_index_table(config, step)
        work = work_of(config, step, index)
        log(LOGGER, "catalog against index", kept=len(work.kept), refused=len(work.refused), todo=len(work.todo))
        draft.figures, version = _build(spark, config, index, work)
        draft.tables = {index.table.name: version}
        write_index(index.table.read(version), draft.path)
        log(LOGGER, "shards published", **draft.figures)


def _build(spark: SparkSession, config: PipelineConfig, index: Index, work: Work) -> tuple[dict[str, Any], int]:
    """Bring everything up to the catalog; figures, and the version of the index table."""
    started, before, seen = time.monotonic(), index, []
    for found in rounds(spark, config, work):
        seen.append(found)
        index = _remember(config, index, found)
        log(LOGGER, "audio decoded", seconds=time.monotonic() - started, **_looked_at(seen), of=len(work.todo))
    reasons = _refuse(config, pa.concat_tables([work.refused, *(found.refused for found in seen)]))
    tracks = len(work.kept) + len(work.refused) + len(work.todo)
    check_reject_share(reasons, tracks, config.audio.max_reject_share, "audio")
    rows = pa.concat_tables([work.kept, *(part for found in seen for part in (found.reused, found.decoded))])
    if not len(rows):
        raise HTCLError("audio: no file of the catalog could be decoded; see the rejects table for the reasons")
    rows, grouping = _grouped(rows)
    rows, compacted = compact(spark, config, rows)
    version = _commit(index, rows)
    figures = {
        **_looked_at(seen),
        "kept": len(work.kept),
        "rejects": reasons,
        "warnings": dict(sum((found.warnings for found in seen), Counter())),
        "duplicates": grouping.duplicates,
        "merged_groups": grouping.merged_groups,
        "compacted": compacted,
        "seconds": round(time.monotonic() - started, 1),
    }
    return {**_figures(config, before, rows), **figures}, version


def _looked_at(seen: list[Round]) -> dict[str, int]:
    """Of how many songs the audio was tried, decoded, or known."""
    decoded, refused = sum(len(found.decoded) for found in seen), sum(len(found.refused) for found in seen)
    reused = sum(len(found.reused) for found in seen)
    return {"rounds": len(seen), "tried": decoded + refused, "decoded": decoded, "reused": reused}


def _remember(config: PipelineConfig, index: Index, found: Round) -> Index:
    """Make what a round brought known to the next run; the index with its rows.

    Rows that these supersede stay until the last commit: their bytes may be those of a file in a later round.

    Raises:
        HTCLError: when another run writes the index, too.
    """
    refused = lasting(found.refused)
    if len(refused):
        refused_table(config.workspace).replace_rows(refused, replace=False)
    rows, table = pa.concat_tables([found.reused, found.decoded]), index.table
    if not len(rows):
        return index
    said = {SETTINGS: index.settings}
    version = table.commit([table.write(rows)], replace=index.outdated, base=index.base, properties=said)
    if version != index.base + 1:  # rows that are added get past whatever another run has done
        raise HTCLError(
            f"table {table.name}: another run has changed it meanwhile (version {index.base} -> {version}); "
            "run the step again when that run has ended"
        )
    return replace(index, base=version, current=pa.concat_tables([index.current, rows]), outdated=False)


def _figures(config: PipelineConfig, index: Index, rows: pa.Table) -> dict[str, Any]:
    """What the new index holds."""
    stay = pc.is_in(index.current["track_id"], value_set=rows["track_id"].combine_chunks())
    seconds = int(pc.sum(rows["frames"]).as_py()) * config.audio.hop_length / config.audio.sample_rate
    return {
        "tracks": len(rows),
        "removed": len(stay) - int(pc.sum(stay).as_py() or 0),
        "shards": len(pc.unique(rows["shard"])),
        "audio_hours": round(seconds / 3600, 2),
        "bytes": int(pc.sum(rows["size"]).as_py()),
    }


def _refuse(config: PipelineConfig, refused: pa.Table) -> dict[str, int]:
    """Tell of every track that is refused now, and remember which need not be opened again; counts by reason."""
    refused = refused.sort_by("track_id")
    rows = refused.select(["track_id", "reason", "detail"]).rename_columns(["key", "reason", "detail"])
    replace_rejects(config.workspace, "audio", rows.to_pylist())
    table, kept = refused_table(config.workspace), lasting(refused)
    if not table.read().sort_by("track_id").cast(REFUSED_AUDIO).equals(kept):
        table.replace_rows(kept)
    return dict(Counter(refused["reason"].to_pylist()))


def _grouped(rows: pa.Table) -> tuple[pa.Table, Grouping]:
    """The index with tracks of equal audio in one split group."""
    grouping = group_duplicates(*(rows[name].combine_chunks() for name in ("split_group", "split", "content_hash")))
    for name, values in (("split_group", grouping.split_group), ("split", grouping.split)):
        rows = rows.set_column(SHARDS.get_field_index(name), SHARDS.field(name), values)
    return rows, grouping


def _commit(index: Index, rows: pa.Table) -> int:
    """Make rows the index, in one transaction, if they are not so already."""
    rows = rows.sort_by("track_id").combine_chunks()
    if index.current.sort_by("track_id").combine_chunks().equals(rows):
        return index.base
    table = index.table
    return table.commit([table.write(rows)], replace=True, base=index.base, properties={SETTINGS: index.settings})


if __name__ == "__main__":
    run_job(job_parser(__doc__ or ""), main)
