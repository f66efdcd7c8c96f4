"""What all systems are asked about: songs, texts, labels, pairs and listeners, over one list of candidates."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.config import PipelineConfig, fingerprint
from htcl.errors import HTCLError
from htcl.evaluation.baselines.mfcc import mfcc_statistics
from htcl.evaluation.gate_set import gate_songs
from htcl.evaluation.held_out import check_groups, on_two_sides
from htcl.evaluation.histories import Histories, read_histories
from htcl.evaluation.labels import Labels, read_labels
from htcl.evaluation.listeners import ListenerQueries, listener_queries
from htcl.evaluation.pairs import held_out_queries
from htcl.evaluation.recommendation import Queries
from htcl.ingest.catalog import read_catalog
from htcl.logs import Progress, get_logger
from htcl.plan import plan
from htcl.shards.index import read_index, rows_of
from htcl.shards.reader import ShardReader

Bools = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
_BATCH = 256


@dataclass(frozen=True)
class World:
    """One configuration's data, as every system is asked about it.

    Attributes:
        data: fingerprint of songs, split and log: runs of other seeds over the same data share it.
        tracks: candidates, sorted [n].
        rows: index rows of the candidates [n].
        index: of the shards.
        reader: of the shards.
        catalog: what the catalog says of each candidate [n].
        sides: train, validation or test of each [n].
        groups: number of the split group of each [n].
        cold_artist: test songs by artists of whom training saw no song [n].
        pairs: queries of song-to-song by split.
        listeners: queries of songs for listeners by split.
        past: histories of training: training songs before the cut-off.
        popularity: positive responses of each candidate in them [n].
        responses: positive responses to each candidate in the whole log [n]: what a new song will be, too.
        labels: labelled fields of the test songs; rows count among `test`.
        cutoff: first day that is kept for warm pairs and for listeners.
    """

    data: str
    tracks: list[str]
    rows: Int64
    index: pa.Table
    reader: ShardReader
    catalog: list[dict[str, Any]]
    sides: npt.NDArray[np.str_]
    groups: Int64
    cold_artist: Bools
    pairs: dict[str, Queries]
    listeners: dict[str, ListenerQueries]
    past: Histories
    popularity: Int64
    responses: Int64
    labels: list[Labels]
    cutoff: str

    @property
    def train(self) -> Bools:
        """Songs that training saw [n]."""
        return np.asarray(self.sides == "train")

    @property
    def test(self) -> Int64:
        """Rows of the test songs."""
        return np.flatnonzero(self.sides == "test")

    @property
    def plays(self) -> csr_matrix:
        """Positive responses in training [listeners, n]."""
        ones = np.ones(len(self.past.song), np.float32)
        shape = (self.past.listeners, len(self.tracks))
        return csr_matrix((ones, (self.past.listener, self.past.song)), shape=shape)

    @cached_property
    def deciles(self) -> Int64:
        """1 to 10 by `responses`, 10 the most popular tenth [n]."""
        order = np.empty(len(self.responses), np.int64)
        order[np.argsort(self.responses, kind="stable")] = np.arange(len(self.responses))
        return 1 + 10 * order // len(self.responses)

    def mfcc(self) -> Float32:
        """MFCC statistics of the candidates [n, 120]."""
        blocks, progress = [], Progress(get_logger("report_card"), "songs' MFCCs", len(self.rows))
        for start in range(0, len(self.rows), _BATCH):
            mels = self.reader.read(self.rows[start : start + _BATCH])
            blocks.append(np.stack([mfcc_statistics(mel) for mel in mels]))
            progress.update(start + len(mels))
        return np.concatenate(blocks)


def read_world(config: PipelineConfig, inputs: dict[str, str]) -> World:
    """Read what the pipeline has published for a configuration.

    Args:
        config: the configuration.
        inputs: from `htcl.plan.raw_inputs`.

    Raises:
        HTCLError: when catalog, shards or pairs are not published, or nothing is held out.
    """
    store, steps = ArtifactStore(config.workspace), plan(config, inputs=inputs)
    keys = {name: steps[name].key for name in ("catalog", "shards", "pairs")}
    index = read_index(store.fetch("shards", keys["shards"]))
    check_groups(index)
    pairs = store.fetch("pairs", keys["pairs"])
    chosen = set(gate_songs(index, pairs, config.gate.songs).to_pylist()) - on_two_sides(index)
    tracks = sorted(chosen)
    rows = rows_of(index, pa.array(tracks))
    sides = np.asarray(index["split"].take(pa.array(rows))).astype(str)
    catalog = read_catalog(store.fetch("catalog", keys["catalog"]))
    described = catalog.take(pa.array(rows_of(catalog.select(["track_id"]), pa.array(tracks)))).to_pylist()
    figures = store.manifest("pairs", keys["pairs"])["figures"]
    first, moment = (_microseconds(figures[day]) for day in ("first_day", "cutoff_day"))
    everyone = read_histories(config, tracks, config.report_card.listeners)
    everyone = everyone.part(everyone.ts >= first)
    train, cold_artist = sides == "train", _cold_artists(catalog, index, described, sides)
    past = everyone.part((everyone.ts < moment) & train[everyone.song])
    offers = {"warm": train, "cold": sides == "test", "cold_artist": cold_artist}
    judges = _judges(everyone, config)
    asked = {split: listener_queries(judges, moment, train, offer) for split, offer in offers.items()}
    _check_that_something_is_asked(sides, asked)
    return World(
        data=fingerprint(keys),
        tracks=tracks,
        rows=rows,
        index=index,
        reader=ShardReader(storage.join(config.workspace, "shards"), index),
        catalog=described,
        sides=sides,
        groups=np.unique(np.asarray(index["split_group"].take(pa.array(rows))), return_inverse=True)[1],
        cold_artist=cold_artist,
        pairs=_pair_queries(pairs, tracks, sides, cold_artist),
        listeners={split: queries for split, queries in asked.items() if queries},
        past=past,
        popularity=np.bincount(past.song, minlength=len(tracks)),
        responses=np.bincount(everyone.song, minlength=len(tracks)),
        labels=_labels(config, [described[row] for row in np.flatnonzero(sides == "test")]),
        cutoff=figures["cutoff_day"],
    )


def _check_that_something_is_asked(sides: npt.NDArray[np.str_], asked: dict[str, ListenerQueries | None]) -> None:
    if not (sides == "test").any() and not any(asked.values()):
        raise HTCLError(
            "report card: no song is held out, and no listener likes anything new after the cut-off; raise "
            "split.test_share or split.warm_test_share"
        )


def _labels(config: PipelineConfig, described: list[dict[str, Any]]) -> list[Labels]:
    """The labelled fields that the test songs have."""
    found = (read_labels(field, section, described) for field, section in config.report_card.labels.items())
    return [labels for labels in found if labels]


def _microseconds(day: str) -> int:
    """The first moment of a day, UTC, since 1970."""
    return int((dt.date.fromisoformat(day) - dt.date(1970, 1, 1)).total_seconds() * 1e6)


def _judges(everyone: Histories, config: PipelineConfig) -> Histories:
    """Histories of the listeners that are asked; tuning has the others."""
    kept = np.random.default_rng(config.evaluation.seed).random(everyone.listeners)
    asked = kept >= config.report_card.validation_listener_share
    return everyone.part(asked[everyone.listener])


def _cold_artists(
    catalog: pa.Table, index: pa.Table, described: list[dict[str, Any]], sides: npt.NDArray[np.str_]
) -> Bools:
    """Test songs with an artist of whom no song lies on another side."""
    seen = index.filter(pc.not_equal(index["split"], "test"))["track_id"].combine_chunks()
    artists = set(catalog.filter(pc.is_in(catalog["track_id"], value_set=seen))["artist"].to_pylist())
    unseen = [bool(song["artist"]) and song["artist"] not in artists for song in described]
    return np.asarray(np.array(unseen) & (sides == "test"))


def _pair_queries(
    pairs: Path, tracks: list[str], sides: npt.NDArray[np.str_], cold_artist: Bools
) -> dict[str, Queries]:
    found = {split: held_out_queries(pairs, split, tracks, sides) for split in ("cold", "warm", "validation")}
    queries = {split: each for split, each in found.items() if each}
    if "cold" in queries and (asked := cold_artist[queries["cold"].anchors]).any():
        queries["cold_artist"] = queries["cold"].chosen(np.flatnonzero(asked))
    return queries
