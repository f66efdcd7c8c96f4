"""Cosine scores of the concert log, the whole of it, against the item-item recommender of `implicit`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
from daily_counts import bring_up_to_date
from implicit.nearest_neighbours import CosineRecommender
from scipy.sparse import csr_matrix
from snapshot import take_snapshot

from htcl.artifacts import ArtifactStore, Recipe
from htcl.pairs import PAIRS_FOLDER

LOG = Path(__file__).resolve().parents[4] / "shared" / "data" / "concert" / "interactions"
SONGS_A_BASKET = 1000
"""More than any programme has."""


def log_rows():
    """Events with a user and a song, once each."""
    files = sorted(LOG.rglob("*.jsonl"))
    rows = pd.concat([pd.read_json(file, lines=True, convert_dates=False) for file in files], ignore_index=True)
    rows = rows.dropna(subset=["user_id", "track_id", "session_id", "ts"])
    return rows.drop_duplicates("event_id")


def basket_matrix(rows):
    """Baskets x songs with ones: what one user heard in one session on one day, and the songs by column."""
    day = pd.to_datetime(rows["ts"], utc=True, format="ISO8601").dt.date
    baskets = rows.groupby([rows["user_id"], rows["session_id"], day], sort=False).ngroup().to_numpy()
    songs, column = np.unique(rows["track_id"].to_numpy(dtype=str), return_inverse=True)
    matrix = csr_matrix((np.ones(len(rows), np.float64), (baskets, column)))
    matrix.data[:] = 1.0  # a song that stands in a programme twice was heard in one basket
    return matrix, songs


@pytest.mark.skipif(not LOG.exists(), reason="the concert data is not here")
def test_cosine_scores_of_a_whole_log_are_those_of_implicit(spark, configured, make_songs, tmp_path):
    rows = log_rows()
    matrix, songs = basket_matrix(rows)
    keys = make_songs(tmp_path / "workspace", dict.fromkeys(songs.tolist(), "train"))
    config = configured(
        workspace=str(tmp_path / "workspace"),
        interactions={"path": str(LOG), "positive": {"performed": {}}, "max_reject_share": 0.2},
        pairs={
            "score": "cosine",
            "min_users": 1,
            "min_lift": 0,
            "top_k": len(songs),
            "max_basket_size": SONGS_A_BASKET,
            "buckets": 1,
        },
        split={"warm_test_share": 0},
    )
    version = bring_up_to_date(spark, config, None)
    with ArtifactStore(config.workspace).create(Recipe("pairs", 0, {}, {})) as draft:
        take_snapshot(spark, config, keys, version, draft)
        pairs = ds.dataset(draft.path / PAIRS_FOLDER, format="parquet").to_table().to_pandas()

    peer = CosineRecommender(K=len(songs), num_threads=2)
    peer.fit(matrix, show_progress=False)
    similarity = peer.similarity.tocoo()
    others = similarity.row != similarity.col
    expected = {
        (songs[row], songs[column]): value
        for row, column, value in zip(
            similarity.row[others], similarity.col[others], similarity.data[others], strict=True
        )
        if value > 0
    }
    found = dict(zip(zip(pairs["anchor_id"], pairs["positive_id"], strict=True), pairs["score"], strict=True))
    assert len(found) > 100_000
    assert found.keys() == expected.keys()
    differences = [abs(found[key] - expected[key]) for key in expected]
    assert max(differences) < 1e-6
