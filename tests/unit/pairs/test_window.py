"""Daily counts in a real table to sums over a window: decay, parts of the window, distinct users."""

import datetime as dt
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.errors import HTCLError
from htcl.pairs.blocks import COUNTS, table_counts
from htcl.pairs.counting import SOURCES, WEIGHT_ONE
from htcl.pairs.partition import pair_buckets
from htcl.pairs.store import bucket_name, fewest_buckets, in_bucket, pair_table
from htcl.pairs.window import SUMS, Window, day_totals, sum_bucket
from htcl.schemas import PAIR_COUNTS

FIRST = dt.date(2025, 3, 1)


def day(number):
    return str(FIRST + dt.timedelta(days=number))


def count(number, source, anchor, positive, n_baskets=1, *, weight=None, negative=0, shown=0, users=()):
    """A row of PAIR_COUNTS."""
    weight = n_baskets * WEIGHT_ONE if weight is None else weight
    values = (day(number), source, anchor, positive, n_baskets, weight, negative, shown, sorted(users))
    return dict(zip(PAIR_COUNTS.names, values, strict=True))


def bucket_of(row, buckets):
    """The bucket in which counting puts a row."""
    one = {"day": 0, "source": 0, "anchor": row["anchor_id"], "positive": row["positive_id"], "users": []}
    figures = dict.fromkeys(("n_baskets", "weight", "n_negative", "n_impressions"), 0)
    counts, songs = table_counts(pa.Table.from_pylist([{**one, **figures}], COUNTS))
    return int(pair_buckets(counts, songs, buckets)[0])


def commit(workspace, rows, buckets, replace=True):
    """Write rows as counting does: a file for each day and bucket, one commit."""
    table = pair_table(str(workspace))
    files = defaultdict(list)
    for row in rows:
        files[row["dt"], bucket_of(row, buckets)].append(row)
    parts = [
        table.write(pa.Table.from_pylist(found, PAIR_COUNTS), value, bucket_name(bucket, buckets))
        for (value, bucket), found in sorted(files.items())
    ]
    return table.commit(parts, replace)


def window(workspace, **how):
    settled = {"first": day(0), "newest": day(9), "cutoff": day(8), "half_life_days": None, "min_users": 1}
    return Window(str(workspace), **{**settled, "symmetric": (), **how})


def files_of(found, version=None):
    return found.inside(pair_table(found.workspace).parts(version))


def summed(found, buckets=None, version=None):
    """(period, source, anchor, positive) -> (baskets, decayed baskets, weight, negative, shown, users, newest day)."""
    parts = files_of(found, version)
    buckets = buckets or fewest_buckets(parts)
    sums = {}
    for bucket in range(buckets):
        rows = sum_bucket(found, [part for part in parts if in_bucket(part, bucket, buckets)])
        assert rows.schema == SUMS
        for row in rows.to_pylist():
            key = tuple(row[name] for name in SUMS.names[:4])
            assert key not in sums
            sums[key] = tuple(row[name] for name in SUMS.names[4:])
    return sums


def test_a_window_is_summed_whole_and_in_its_two_parts(tmp_path):
    rows = [
        count(1, "copreference", "a", "b", 2, weight=WEIGHT_ONE // 2, users=[1, 2]),
        count(7, "copreference", "a", "b", 1, users=[2]),
        count(8, "copreference", "a", "b", 4, users=[3]),
        count(9, "triggered", "b", "a", 1, negative=2, shown=5, users=[4]),
        count(9, "item", "a", "a", 3),
    ]
    commit(tmp_path, rows, 4)
    assert summed(window(tmp_path)) == {
        ("all", "copreference", "a", "b"): (7, 7.0, 5.5, 0.0, 0.0, 3, day(8)),
        ("before", "copreference", "a", "b"): (3, 3.0, 1.5, 0.0, 0.0, 2, day(7)),
        ("after", "copreference", "a", "b"): (4, 4.0, 4.0, 0.0, 0.0, 1, day(8)),
        ("all", "triggered", "b", "a"): (1, 1.0, 1.0, 2.0, 5.0, 1, day(9)),
        ("after", "triggered", "b", "a"): (1, 1.0, 1.0, 2.0, 5.0, 1, day(9)),
        ("all", "item", "a", "a"): (3, 3.0, 3.0, 0.0, 0.0, 0, day(9)),
        ("after", "item", "a", "a"): (3, 3.0, 3.0, 0.0, 0.0, 0, day(9)),
    }


def test_all_figures_but_the_baskets_decay_to_the_newest_day_of_the_window(tmp_path):
    rows = [
        count(4, "triggered", "a", "b", 8, negative=16, shown=64, users=[1]),
        count(6, "triggered", "a", "b", 2, weight=WEIGHT_ONE, users=[1]),
    ]
    commit(tmp_path, rows, 1)
    found = summed(window(tmp_path, newest=day(8), half_life_days=2.0))
    assert found["all", "triggered", "a", "b"] == (10, 3.0, 2.5, 4.0, 16.0, 1, day(6))
    found = summed(window(tmp_path, newest=day(6), half_life_days=2.0))
    assert found["all", "triggered", "a", "b"] == (10, 6.0, 5.0, 8.0, 32.0, 1, day(6))


def test_days_outside_the_window_are_not_read(tmp_path):
    rows = [count(n, "item", "a", "a", 10**n) for n in range(5)]
    commit(tmp_path, rows, 2)
    found = summed(window(tmp_path, first=day(1), newest=day(3)))
    assert found["all", "item", "a", "a"][0] == 1110
    assert {part.partition for part in files_of(window(tmp_path, first=day(1), newest=day(3)))} == {
        day(1),
        day(2),
        day(3),
    }


def test_distinct_users_are_counted_across_days_and_in_each_part_of_the_window(tmp_path):
    rows = [
        count(1, "copreference", "a", "b", users=[1, 2]),
        count(2, "copreference", "a", "b", users=[2, 3]),
        count(9, "copreference", "a", "b", users=[3, 4]),
        # Often, but always the same two.
        *(count(n, "copreference", "a", "c", 99, users=[1, 2]) for n in range(8)),
        # Refused and shown only: nobody.
        count(1, "triggered", "a", "b", 0, negative=5, shown=9),
        count(1, "item", "a", "a", 1),
    ]
    commit(tmp_path, rows, 4)
    found = summed(window(tmp_path, min_users=3))
    pairs = {key[:1] + key[2:]: figures[-2] for key, figures in found.items() if key[1] != "item"}
    assert pairs == {("all", "a", "b"): 4, ("before", "a", "b"): 3}
    assert ("all", "item", "a", "a") in found


def test_many_users_are_estimated_from_united_sketches(tmp_path):
    spread = [n * 2**63 // 1000 for n in range(1, 1001)]
    sketches = [sorted(spread[start::4])[:64] for start in range(4)]
    commit(tmp_path, [count(n, "copreference", "a", "b", users=users) for n, users in enumerate(sketches)], 1)
    (users,) = {figures[-2] for key, figures in summed(window(tmp_path)).items() if key[0] == "all"}
    assert users == round(63 / (64 / 1000))


@pytest.mark.parametrize("symmetric", [True, False])
def test_pairs_of_a_symmetric_source_count_both_ways_as_one(tmp_path, symmetric):
    rows = [
        count(1, "triggered", "a", "b", 1, users=[1]),
        count(1, "triggered", "b", "a", 2, users=[2]),
        count(2, "triggered", "b", "a", 4, users=[1]),
        count(2, "copreference", "b", "a", 8, users=[9]),
    ]
    commit(tmp_path, rows, 16)
    found = summed(window(tmp_path, symmetric=("triggered",) if symmetric else ()))
    told = {key[1:]: (figures[0], figures[-2]) for key, figures in found.items() if key[0] == "all"}
    both = {("triggered", "a", "b"): (7, 2)}
    apart = {("triggered", "a", "b"): (1, 1), ("triggered", "b", "a"): (6, 2)}
    assert told == {("copreference", "b", "a"): (8, 1), **(both if symmetric else apart)}


KEY = st.tuples(st.integers(0, 9), st.sampled_from(SOURCES), st.sampled_from("aé"), st.sampled_from("aé"))
FIGURES = st.tuples(*[st.integers(0, 50)] * 4, st.sets(st.integers(0, 20), max_size=3))
ROWS = (
    st.integers(0, 25)
    .flatmap(lambda n: st.dictionaries(KEY, FIGURES, min_size=n, max_size=n))
    .map(
        lambda found: [
            count(*key, n, weight=weight * WEIGHT_ONE // 7, negative=negative, shown=shown, users=users)
            for key, (n, weight, negative, shown, users) in found.items()
        ]
    )
)


@settings(max_examples=6)
@given(ROWS, st.sampled_from([None, 3.0]), st.sampled_from([(), ("copreference", "triggered")]))
def test_sums_are_the_same_in_whichever_files_the_days_lie(tmp_path_factory, rows, half_life_days, symmetric):
    """Days that were counted with 4 and with 16 buckets, and all with one."""
    folders = [tmp_path_factory.mktemp("counts") for _ in range(2)]
    late = {day(n) for n in range(5, 10)}
    commit(folders[0], rows, 1)
    commit(folders[1], [row for row in rows if row["dt"] not in late], 16)
    commit(folders[1], [row for row in rows if row["dt"] in late], 4, replace=sorted(late))
    how = {"half_life_days": half_life_days, "symmetric": symmetric}
    one, mixed = window(folders[0], **how), window(folders[1], **how)
    expected = summed(one)
    assert summed(mixed) == summed(mixed, 1) == expected
    totals = day_totals(str(folders[1]), files_of(mixed))
    assert totals == day_totals(str(folders[0]), files_of(one))
    heard = defaultdict(int)
    for row in rows:
        heard[row["dt"]] += row["n_baskets"] * (row["source"] == "item")
    assert totals == heard


def test_decayed_sums_of_many_rows_are_the_same_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(3)
    pairs = [(n, a, b) for n in range(4) for a in "abcdefghijklm" for b in "abcdefghijklm" if a != b]
    rows = [count(n, "triggered", a, b, int(rng.integers(50)), users=[1]) for n, a, b in pairs]
    folders = [tmp_path / "one", tmp_path / "four"]
    for folder, buckets in zip(folders, (1, 4), strict=True):
        commit(folder, rows, buckets)
    one, four = (summed(window(f, half_life_days=3.0, symmetric=("triggered",))) for f in folders)
    assert one == four


@settings(max_examples=6)
@given(ROWS, st.integers(1, 3))
def test_sums_equal_a_slow_reference(tmp_path_factory, rows, min_users):
    folder = tmp_path_factory.mktemp("counts")
    commit(folder, rows, 4)
    totals = {}
    for row in rows:
        number = (dt.date.fromisoformat(row["dt"]) - FIRST).days
        for period in ("all", "before" if number < 8 else "after"):
            key = (period, row["source"], row["anchor_id"], row["positive_id"])
            figures, users, days = totals.setdefault(key, ([0.0] * 4, set(), []))
            for place, name in enumerate(("n_baskets", "weight", "n_negative", "n_impressions")):
                figures[place] += row[name] * 0.5 ** ((9 - number) / 3)
            users.update(row["users"])
            days.append((row["dt"], row["n_baskets"]))
    found = summed(window(folder, half_life_days=3.0, min_users=min_users))
    enough = {key for key, (_, users, _) in totals.items() if len(users) >= min_users or key[1] == "item"}
    assert found.keys() == enough
    for key, (baskets, *sums, users, newest) in found.items():
        figures, known, days = totals[key]
        figures[1] /= WEIGHT_ONE
        assert sums == pytest.approx(figures)
        assert (baskets, users, newest) == (sum(n for _, n in days), len(known), max(d for d, _ in days))


def test_an_earlier_version_gives_its_own_sums(tmp_path):
    before = commit(tmp_path, [count(1, "item", "a", "a", 1)], 4)
    after = commit(tmp_path, [count(1, "item", "a", "a", 5)], 4, replace=[day(1)])
    assert [summed(window(tmp_path), version=v)["all", "item", "a", "a"][0] for v in (before, after)] == [1, 5]


def test_a_bucket_without_files_has_no_sums(tmp_path):
    row = count(1, "item", "a", "a")
    commit(tmp_path, [row], 4)
    parts = files_of(window(tmp_path))
    assert [in_bucket(part, bucket_of(row, 4), 4) for part in parts] == [True]
    assert sum_bucket(window(tmp_path), parts).num_rows == 2
    assert sum_bucket(window(tmp_path), []).num_rows == 0


def test_a_file_lies_in_one_bucket_of_however_few(tmp_path):
    commit(tmp_path, [count(1, "item", song, song) for song in "abcdefgh"], 16)
    parts = pair_table(str(tmp_path)).parts()
    assert fewest_buckets(parts) == 16 and fewest_buckets([]) == 1
    for buckets in (1, 2, 8, 16):
        for part in parts:
            assert [in_bucket(part, bucket, buckets) for bucket in range(buckets)].count(True) == 1


def test_a_file_that_htcl_did_not_write_is_told(tmp_path):
    table = pair_table(str(tmp_path))
    table.commit([table.write(pa.Table.from_pylist([count(1, "item", "a", "a")], PAIR_COUNTS), day(1))], True)
    with pytest.raises(HTCLError, match=r"pair_counts: dt=2025-03-02/part-.* is no file of htcl; count the log anew"):
        fewest_buckets(table.parts())
