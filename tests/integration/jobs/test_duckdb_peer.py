"""The peer of the benchmark counts what the job counts: every row of a small log of every kind of basket."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from daily_counts import bring_up_to_date

from htcl.pairs.sketches import SKETCH_SIZE
from htcl.pairs.store import pair_table
from htcl.schemas import INTERACTIONS, PAIR_COUNTS

from ...benchmarks.duckdb_peer import count_pairs
from ...benchmarks.events import Skew, write_log

CROWD = SKETCH_SIZE + 6


@pytest.mark.parametrize("most", [100, 6])
def test_the_peer_has_the_same_rows(spark, configured, tmp_path, most):
    log = tmp_path / "log"
    write_log(log, 6_000, Skew(user=0.1, song=0.5))
    add_crowd(log / "dt=2025-03-02")
    config = configured(
        workspace=str(tmp_path / "workspace"), interactions={"path": str(log)}, pairs={"max_basket_size": most}
    )
    version = bring_up_to_date(spark, config, None)
    ours = pair_table(config.workspace).read(version)
    assert not any(pc.sum(ours[name]).as_py() for name in ("n_negative", "n_impressions"))
    count_pairs(log, tmp_path / "peer.parquet", most)

    found, wanted = rows(pq.read_table(tmp_path / "peer.parquet")), rows(ours)
    assert found == wanted
    assert len(wanted) > 5_000 and max(wanted.values()) == 1
    pairs = [row for row in wanted if row[1] == "copreference"]
    assert max((row[4], row[6]) for row in pairs) == (CROWD + 1, SKETCH_SIZE)
    assert len({row[6] for row in pairs}) > 2


def add_crowd(day):
    """More users than a sketch holds, one of them in two sessions, who like the same two songs."""
    events = [(f"crowd{user}", f"c{user}") for user in range(CROWD)] + [("crowd0", "another")]
    noon = dt.datetime(2025, 3, 2, 12, tzinfo=dt.UTC)
    table = pa.Table.from_pylist(
        [
            {
                "ts": noon + dt.timedelta(minutes=number),
                "user_id": user,
                "track_id": track,
                "event_type": "like",
                "session_id": session,
            }
            for number, (user, session) in enumerate(events)
            for track in ("a", "b")
        ],
        pa.schema([INTERACTIONS.field(n) for n in pq.read_schema(day / "events.parquet").names]),
    )
    pq.write_table(table, day / "crowd.parquet")


def rows(table):
    """Rows as often as they are there, of a sketch its size: the peer hashes users otherwise."""
    columns = [table[name].cast(PAIR_COUNTS.field(name).type) for name in PAIR_COUNTS.names[:6]]
    return Counter(zip(*(c.to_pylist() for c in (*columns, pc.list_value_length(table["users"]))), strict=True))
