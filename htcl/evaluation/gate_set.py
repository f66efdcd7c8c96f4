"""The songs that models are judged on before the whole catalog is embedded, always the same ones while they last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from htcl.artifacts import ArtifactStore
from htcl.pairs import PAIRS_FOLDER

SONGS_FILE = "songs.parquet"
HELD_OUT_SHARE = 0.25
"""Of the gate set, for each of held-out songs and of songs with positives after the cut-off."""
_HASH_KEY = "htcl gate set v1"  # 16 letters, as pandas asks for

Bool = npt.NDArray[np.bool_]
UInt64 = npt.NDArray[np.uint64]


def gate_songs(index: pa.Table, pairs: Path, limit: int) -> pa.Array:
    """Choose the songs of a gate set.

    A catalog of at most `limit` songs is one as a whole. Of a larger one come held-out split groups, songs with
    positives in the newest days, the positives of both, and others to search among. Which group or song is first is a
    hash of its name: the same ones are taken day after day, while they are there.

    Args:
        index: of the shards: track_id, split_group, split.
        pairs: folder of the pairs artifact.
        limit: songs at most.

    Returns:
        Track ids, sorted.
    """
    index = index.sort_by("track_id")  # versions of a work are in the order of their names, too
    tracks = index["track_id"].combine_chunks()
    if len(tracks) <= limit:
        return tracks
    held_out = np.asarray(pc.not_equal(index["split"], "train"))
    groups, songs = _order(index["split_group"]), _order(index["track_id"])
    each = int(limit * HELD_OUT_SHARE)
    chosen = _first(groups, held_out, each)
    found = ds.dataset(pairs / PAIRS_FOLDER, format="parquet").to_table(
        columns=["anchor_id", "positive_id"], filter=pc.field("split").isin(["test_cold", "test_warm", "validation"])
    )
    asked = np.asarray(pc.is_in(tracks, value_set=pc.unique(found["anchor_id"])))
    chosen |= _first(songs, asked & ~held_out, each)
    answers = found.filter(pc.is_in(found["anchor_id"], value_set=tracks.filter(pa.array(chosen))))["positive_id"]
    wanted = np.asarray(pc.is_in(tracks, value_set=pc.unique(answers))) & ~chosen
    chosen |= _first(songs, wanted, limit - int(chosen.sum()))
    chosen |= _first(songs, ~chosen, limit - int(chosen.sum()))
    return tracks.filter(pa.array(chosen))


def write_gate_songs(tracks: pa.Array, folder: Path) -> None:
    """Write the track ids of a gate set into the folder of its artifact."""
    pq.write_table(pa.table({"track_id": tracks}), folder / SONGS_FILE)


def read_gate_songs(store: ArtifactStore, key: str) -> pa.Array:
    """Track ids of a published gate set, sorted."""
    return pq.read_table(store.fetch("gate_set", key) / SONGS_FILE)["track_id"].combine_chunks()


def _order(names: pa.ChunkedArray) -> UInt64:
    """A number for each name that depends on nothing else [n]."""
    encoded = names.combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_numpy(zero_copy_only=False)
    hashed: UInt64 = pd.util.hash_array(words, hash_key=_HASH_KEY, categorize=False)
    ordered: UInt64 = hashed[encoded.indices.to_numpy()]
    return ordered


def _first(order: UInt64, eligible: Bool, n: int) -> Bool:
    """The `n` eligible rows that come first."""
    rows = np.flatnonzero(eligible)
    chosen = np.zeros(len(order), bool)
    chosen[rows[np.argsort(order[rows], kind="stable")[:n]]] = True
    return chosen
