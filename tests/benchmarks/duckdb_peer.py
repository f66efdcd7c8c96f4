"""DuckDB doing the counting of jobs/mine_pairs.py over the same Parquet files: what pair mining is held against.

python -m tests.benchmarks.duckdb_peer LOG OUT [--bare]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import duckdb

from htcl.pairs.counting import WEIGHT_ONE
from htcl.pairs.sketches import SKETCH_SIZE

THREADS = 2

_HEARD = """
create temp table heard as
select dt, user_id, session_id, track_id, min(ts) as first
from read_parquet('{log}/*/*.parquet', hive_partitioning = true)
where event_type = 'like' or (event_type = 'play' and duration_ratio >= 0.5)
group by all
"""
_SIZES = """
create or replace temp table sizes as
select (row_number() over ())::integer as basket, *
from (select dt, user_id, session_id, count(*) as n from heard group by all)
"""
_CAPPED = """
create or replace temp table heard as
select * from heard
qualify row_number() over (partition by dt, user_id, session_id order by first, track_id) <= {most}
"""
_SONGS = """
create temp table songs as
select (row_number() over (order by track_id))::integer as song, track_id from (select distinct track_id from heard)
"""
_BASKETS = """
create temp table baskets as
select basket, dt, (hash(user_id) >> 1)::bigint as user, song, n
from heard join sizes using (dt, user_id, session_id) join songs using (track_id)
"""
_PAIRS = """
select l.dt, l.song as one, r.song as other, count(*) as n_baskets,
       sum(round({weight} / (l.n - 1))::integer)::bigint as weight {users}
from baskets l join baskets r on l.basket = r.basket and l.song < r.song
group by all
"""
_ITEMS = """
select dt, song as one, song as other, count(*) as n_baskets,
       sum(round({weight} / n)::integer)::bigint as weight {users}
from baskets group by all
"""
_WRITTEN = """
copy (
  select dt, source, a.track_id as anchor_id, b.track_id as positive_id, n_baskets, weight,
         case when n_baskets < 2 then users else list_slice(list_sort(list_distinct(users)), 1, {size}) end as users
  from (select 'copreference' as source, * from ({pairs}) union all select 'item', * from ({items}))
  join songs a on a.song = one join songs b on b.song = other
) to '{out}' (format parquet, compression zstd)
"""


def count_pairs(log: Path, out: Path, max_basket_size: int = 100, bare: bool = False) -> None:
    """Count pairs and songs by day.

    Args:
        log: folder of `dt=YYYY-MM-DD/*.parquet`; every event has a session id.
        out: Parquet file that is written: dt, source, anchor_id, positive_id, n_baskets, weight, users (of a pair the
            least 64 hashes of distinct users).
        max_basket_size: of a larger basket the first songs heard are kept.
        bare: count only: no sketches of users, no ids, nothing is written.
    """
    base = duckdb.connect(config={"threads": THREADS, "preserve_insertion_order": False})
    base.execute("set enable_progress_bar = false")
    base.execute(_HEARD.format(log=log))
    base.execute(_SIZES)
    largest = base.execute("select max(n) from sizes").fetchone()
    if largest and largest[0] > max_basket_size:
        base.execute(_CAPPED.format(most=max_basket_size))
        base.execute(_SIZES)
    base.execute(_SONGS)
    base.execute(_BASKETS)
    pairs = _PAIRS.format(weight=WEIGHT_ONE, users="" if bare else ", list(l.user) as users")
    items = _ITEMS.format(weight=WEIGHT_ONE, users="" if bare else ", []::bigint[] as users")
    if bare:
        base.execute(f"create temp table counted as {pairs} union all {items}")
    else:
        base.execute(_WRITTEN.format(pairs=pairs, items=items, size=SKETCH_SIZE, out=out))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bare", action="store_true", help="count only, keep nothing")
    options = parser.parse_args()
    started = time.perf_counter()
    count_pairs(options.log, options.out, bare=options.bare)
    print(time.perf_counter() - started)
