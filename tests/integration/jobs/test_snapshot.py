"""Daily counts to a snapshot: scores, thresholds, decay, window and split against values counted by hand."""

import numpy as np
import pyarrow.dataset as ds
import pytest
from pyspark.sql import functions as F
from snapshot import MERGED_SKETCH, _cutoff, _distinct_users, _first_day, _score, take_snapshot

from htcl.config import PairsConfig
from htcl.errors import HTCLError
from htcl.pairs import KNOWN_FOLDER, PAIRS_FOLDER, POPULARITY_FOLDER
from htcl.pairs.counting import SKETCH_SIZE, WEIGHT_ONE, estimate_users
from htcl.schemas import PAIRS

NEWEST = "2025-03-31"
COUNTS = (
    "dt string, anchor_id string, positive_id string, source string, n_baskets long, weight long, users array<long>"
)
ITEMS = "dt string, track_id string, n_baskets long, weight long"


def pair(songs, n=1, *, dt=NEWEST, source="copreference", users=(1, 2), weight=None):
    """A row of PAIR_COUNTS: two songs as two letters, the weight in baskets."""
    return (dt, songs[0], songs[1], source, n, int((n if weight is None else weight) * WEIGHT_ONE), list(users))


def item(song, n, share=None, *, dt=NEWEST):
    """A row of ITEM_COUNTS, the weight in baskets."""
    return (dt, song, n, round((n / 2 if share is None else share) * WEIGHT_ONE))


@pytest.fixture(scope="module")
def scored(spark):
    """Rows of `_score`: (split, pair, source) -> row."""

    def score(pairs, items, **section):
        pairs = spark.createDataFrame([(split, *row) for split, row in pairs], f"split string, {COUNTS}")
        items = spark.createDataFrame([(split, *row) for split, row in items], f"split string, {ITEMS}")
        config = PairsConfig.model_validate({"min_users": 1, "min_lift": 0, **section})
        rows = [row.asDict() for row in _score(pairs, items, config, NEWEST).collect()]
        return {(row["split"], row["anchor_id"] + row["positive_id"], row["source"]): row for row in rows}

    return score


def copreference(rows):
    return {songs: row for (_, songs, source), row in rows.items() if source == "copreference"}


# Eight baskets: a in 4, b in 3, c in 6.
SONGS = {"a": 4.0, "b": 3.0, "c": 6.0}
SHARES = {"a": 2.0, "b": 1.5, "c": 4.5}
TOGETHER = {"ab": 2.0, "ba": 2.0, "ac": 3.0, "bc": 1.0}


def cosine(n, n_a, n_b):
    return n / np.sqrt(n_a * n_b)


def npmi(n, n_a, n_b):
    p, p_a, p_b = n / 8, n_a / 8, n_b / 8
    return np.log(p / (p_a * p_b)) / -np.log(p)


def bm25(n, n_a, n_b):
    length = n_a / np.mean([4, 3, 6])
    return np.log(1 + (8 - n_b + 0.5) / (n_b + 0.5)) * n * 2.2 / (n + 1.2 * (0.25 + 0.75 * length))


FORMULAS = {"count": lambda n, n_a, n_b: n, "cosine": cosine, "npmi": npmi, "bm25": bm25}


@pytest.mark.parametrize("score", FORMULAS)
def test_scores_are_their_formulas(scored, score):
    pairs = [("train", pair(songs, int(n))) for songs, n in TOGETHER.items()]
    items = [("train", item(song, int(n), SHARES[song])) for song, n in SONGS.items()]
    # Another split has marginals of its own.
    pairs.append(("validation", pair("ab", 1)))
    items += [("validation", item(song, 50, 25)) for song in "ab"]
    rows = scored(pairs, items, score=score)
    expected = {songs: FORMULAS[score](n, SONGS[songs[0]], SONGS[songs[1]]) for songs, n in TOGETHER.items()}
    found = {songs: row["score"] for (split, songs, _), row in rows.items() if split == "train"}
    assert found == pytest.approx(expected, rel=1e-12)


def test_npmi_of_a_pair_that_stands_in_every_basket_is_one(scored):
    pairs, items = [], []
    for split, size in (("train", 2), ("validation", 3), ("test_warm", 7)):
        pairs.append((split, pair("ab", 4)))
        share = 4 * round(WEIGHT_ONE / size) / WEIGHT_ONE
        items += [(split, item(song, 4, share)) for song in "abcdefg"[:size]]
    rows = scored(pairs, items, score="npmi")
    assert [row["score"] for row in rows.values()] == pytest.approx([1, 1, 1], abs=1e-9)


def test_a_trigger_song_without_a_basket_of_its_own_counts_as_often_as_the_pair(scored):
    pairs = [("train", pair("ab", 2, source="triggered")), ("train", pair("ca", 6, source="triggered"))]
    rows = scored(pairs, [("train", item("b", 8, 8)), ("train", item("a", 4, 4))], score="cosine")
    assert rows["train", "ab", "triggered"]["score"] == pytest.approx(2 / np.sqrt(4 * 8))
    # c stands in no basket and a in fewer than the pair: neither is less than the pair itself.
    assert rows["train", "ca", "triggered"]["score"] == pytest.approx(6 / np.sqrt(6 * 6))


def test_copreference_needs_more_lift_than_asked_for_and_triggered_pairs_none(scored):
    # Four baskets: ab meets as often as chance has it, ac twice as often, cd half as often.
    items = [("train", item(song, n, share)) for song, n, share in (("a", 2, 1), ("b", 2, 1), ("c", 2, 1), ("d", 4, 1))]
    pairs = [pair("ab", 1), pair("ac", 2), pair("cd", 1)]
    pairs += [pair("ab", 1, source="triggered"), pair("cd", 1, source="triggered")]
    pairs = [("train", row) for row in pairs]
    triggered = {("train", "ab", "triggered"), ("train", "cd", "triggered")}
    for min_lift, kept in ((0.5, {"ab", "ac"}), (1, {"ac"})):
        rows = scored(pairs, items, min_lift=min_lift)
        assert set(rows) == triggered | {("train", songs, "copreference") for songs in kept}


def test_pairs_of_too_few_users_are_dropped_and_days_share_users(scored):
    pairs = [
        pair("ab", users=[1, 2]),
        pair("ab", users=[2, 3], dt="2025-03-30"),
        pair("ac", users=[1, 2]),
        pair("ac", users=[1, 2], dt="2025-03-30"),
    ]
    rows = scored([("train", row) for row in pairs], [("train", item(song, 4)) for song in "abc"], min_users=3)
    assert {key: row["n_users"] for key, row in rows.items()} == {("train", "ab", "copreference"): 3}


def test_a_basket_counts_half_after_each_half_life(scored):
    days = {"2025-03-31": 1, "2025-03-29": 2, "2025-03-27": 4}  # after 0, 1 and 2 half-lives one basket each
    pairs = [("train", pair("ab", n, dt=day, weight=n / 2)) for day, n in days.items()]
    items = [("train", item(song, n, n / 2, dt=day)) for day, n in days.items() for song in "ab"]
    items.append(("train", item("a", 8, 8, dt="2025-03-23")))  # four half-lives: half a basket
    row = scored(pairs, items, half_life_days=2, score="cosine")["train", "ab", "copreference"]
    assert (row["n"], row["weight"], row["n_a"], row["n_b"], row["baskets"]) == (3, 1.5, 3.5, 3, 3.5)
    assert row["score"] == pytest.approx(3 / np.sqrt(3.5 * 3))
    assert row["last_dt"] == "2025-03-31"
    undecayed = scored(pairs, items, score="count")["train", "ab", "copreference"]
    assert (undecayed["n"], undecayed["weight"], undecayed["n_a"], undecayed["baskets"]) == (7, 3.5, 15, 15)


@pytest.mark.parametrize(
    ("window_days", "first"), [(1, "2025-03-01"), (2, "2025-02-28"), (61, "2024-12-31"), (None, "0001-01-01")]
)
def test_a_window_ends_with_the_newest_day(window_days, first):
    assert _first_day("2025-03-01", window_days) == first


# Ten days of ten baskets each.
TEN = [(f"2025-03-{day:02}", 10) for day in range(1, 11)]


@pytest.mark.parametrize(
    ("days", "first", "share", "cutoff"),
    [
        (TEN, "0001-01-01", 0.0, "2025-03-11"),
        (TEN, "0001-01-01", 0.05, "2025-03-11"),
        (TEN, "0001-01-01", 0.1, "2025-03-10"),
        (TEN, "0001-01-01", 0.19, "2025-03-10"),
        (TEN, "0001-01-01", 0.25, "2025-03-09"),
        (TEN, "0001-01-01", 0.99, "2025-03-02"),
        (TEN, "2025-03-07", 0.25, "2025-03-10"),
        ([("2025-02-28", 90), ("2025-03-05", 10)], "0001-01-01", 0.1, "2025-03-01"),
        ([("2025-02-28", 10), ("2025-03-05", 90)], "0001-01-01", 0.1, "2025-03-06"),
        ([("2024-12-31", 10)], "0001-01-01", 0.9, "2025-01-01"),
    ],
)
def test_whole_days_up_to_the_share_are_kept_for_the_warm_test(days, first, share, cutoff):
    assert _cutoff(days, first, share) == cutoff


def test_the_merged_sketch_estimates_as_the_kernel_does(spark):
    rng = np.random.default_rng(3)
    rows, expected = [], {}
    for n in (1, 3, SKETCH_SIZE - 1, SKETCH_SIZE, SKETCH_SIZE + 1, 500, 20_000):
        users = rng.choice(2**63 - 1, n) if n > 1 else np.array([2**63 - 1])
        parts = [users[: n // 2 + 1], users[n // 3 :]]  # some users on both days
        rows += [(n, sorted(set(part.tolist()))[:SKETCH_SIZE]) for part in parts]
        least = sorted(users.tolist())[:SKETCH_SIZE]
        expected[n] = (least, estimate_users(len(least), least[-1]))
    merged = (
        spark.createDataFrame(rows, "n long, users array<long>").groupBy("n").agg(F.expr(MERGED_SKETCH).alias("users"))
    )
    found = merged.withColumn("n_users", _distinct_users()).collect()
    assert {row["n"]: (row["users"], row["n_users"]) for row in found} == expected
    assert expected[SKETCH_SIZE - 1][1] == SKETCH_SIZE - 1 and expected[500][1] != SKETCH_SIZE


# A world of two days of training and a last one, which holds a quarter of the baskets of songs. Songs a to f may be
# trained on, v validates, x and y test.
SIDES = {**dict.fromkeys("abcdef", "train"), "v": "validation", "x": "test", "y": "test"}
FIRST, SECOND, LAST = "2025-03-01", "2025-03-03", "2025-03-10"
CUTOFF = "2025-03-04"
PAIR_ROWS = [
    # Training: a with b, c, d and e, of which the first two are within top-K; c goes before d, which is as good.
    pair("ab", 3, dt=FIRST, users=[1, 2], weight=1.5),
    pair("ab", 2, dt=SECOND, users=[2, 3], weight=2),
    pair("ac", 4, dt=FIRST),
    pair("ad", 4, dt=SECOND),
    pair("ae", 2, dt=SECOND),
    pair("bc", 1, dt=FIRST, source="triggered"),
    *(pair(songs, n, dt=FIRST, source="triggered") for songs, n in (("eb", 3), ("ec", 2), ("ef", 1))),
    pair("af", 9, dt=FIRST, users=[1]),  # one user is too few
    # Validation, on any day; more than top-K.
    pair("av", 1, dt=FIRST),
    pair("bv", 2, dt=SECOND),
    pair("cv", 3, dt=LAST),
    # Cold test, on any day; a song of the validation too.
    pair("ax", 1, dt=FIRST),
    pair("bx", 2, dt=SECOND),
    pair("vx", 3, dt=LAST),
    pair("xy", 4, dt=LAST),
    pair("xa", 5, dt=LAST, source="triggered"),
    # Warm test: more than top-K around d; the rest was trained on, before top-K or in the other direction.
    pair("bd", 1, dt=LAST),
    pair("cd", 2, dt=LAST),
    pair("de", 3, dt=LAST),
    pair("fb", 4, dt=LAST, source="triggered"),
    pair("ab", 5, dt=LAST),
    pair("ae", 6, dt=LAST),
    pair("cb", 7, dt=LAST, source="triggered"),
    pair("bc", 8, dt=LAST),
    pair("ef", 9, dt=LAST),
]
ITEM_ROWS = [
    *(item(song, 4, dt=FIRST) for song in "abcvx"),
    *(item(song, 2, dt=SECOND) for song in "abdex"),
    *(item(song, 1, dt=LAST) for song in "abcdefvxy"),
    item("y", 1, dt=LAST),
]

TRAIN = {"ab": 5, "ac": 4, "ba": 5, "ca": 4, "da": 4, "ea": 2}
VALIDATION = {"av": 1, "va": 1, "bv": 2, "vb": 2, "cv": 3, "vc": 3}
COLD = {"ax": 1, "xa": 1, "bx": 2, "xb": 2, "vx": 3, "xv": 3, "xy": 4, "yx": 4}
WARM = {"bd": 1, "db": 1, "cd": 2, "dc": 2, "de": 3, "ed": 3}
SNAPSHOT = {
    **{("train", songs, "copreference"): n for songs, n in TRAIN.items()},
    ("train", "bc", "triggered"): 1,
    ("train", "eb", "triggered"): 3,
    ("train", "ec", "triggered"): 2,
    **{("validation", songs, "copreference"): n for songs, n in VALIDATION.items()},
    **{("test_cold", songs, "copreference"): n for songs, n in COLD.items()},
    ("test_cold", "xa", "triggered"): 5,
    **{("test_warm", songs, "copreference"): n for songs, n in WARM.items()},
    ("test_warm", "fb", "triggered"): 4,
}


@pytest.fixture(scope="module")
def snapshot(spark, configured):
    """Take a snapshot of the world into a folder; returns its figures."""

    def take(folder, *, turned=False, warm_test_share=0.25, **section):
        folder.mkdir()
        step = -1 if turned else 1
        pairs = spark.createDataFrame(PAIR_ROWS[::step], COUNTS).repartition(3 if turned else 1)
        items = spark.createDataFrame(ITEM_ROWS[::step], ITEMS).repartition(3 if turned else 1)
        catalog = spark.createDataFrame(list(SIDES.items())[::step], "track_id string, split string")
        section = {"min_users": 2, "min_lift": 0, "score": "count", "top_k": 2, **section}
        config = configured(pairs=section, split={"warm_test_share": warm_test_share})
        return take_snapshot(config, pairs, items, catalog, folder)

    return take


def rows_of(folder, name):
    rows = ds.dataset(folder / name, format="parquet").to_table().to_pylist()
    return sorted(rows, key=lambda row: [str(value) for value in row.values()])


def keyed(rows):
    found = {(row["split"], row["anchor_id"] + row["positive_id"], row["source"]): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def taken(snapshot, tmp_path_factory):
    folder = tmp_path_factory.mktemp("taken") / "snapshot"
    return folder, snapshot(folder)


def test_every_pair_is_on_its_side_of_the_split(taken):
    found = {key: row["score"] for key, row in keyed(rows_of(taken[0], PAIRS_FOLDER)).items()}
    assert found == SNAPSHOT


def test_top_k_cuts_the_training_pairs_of_each_source_only(taken):
    keys = keyed(rows_of(taken[0], PAIRS_FOLDER))
    partners = {
        (split, anchor): {songs[1] for s, songs, source in keys if s == split and songs[0] == anchor}
        for split, anchor in (
            ("train", "a"),
            ("train", "b"),
            ("validation", "v"),
            ("test_cold", "x"),
            ("test_warm", "d"),
        )
    }
    assert partners == {
        ("train", "a"): set("bc"),
        ("train", "b"): set("ac"),
        ("validation", "v"): set("abc"),
        ("test_cold", "x"): set("abvy"),
        ("test_warm", "d"): set("bce"),
    }


def test_a_pair_trained_in_either_direction_is_no_warm_test_pair(taken):
    warm = {songs for split, songs, _ in keyed(rows_of(taken[0], PAIRS_FOLDER)) if split == "test_warm"}
    assert warm.isdisjoint({"ab", "ba", "ae", "ea", "bc", "cb", "ef", "fe"})
    assert warm >= {"bd", "db"}


def test_rows_add_up_the_days_of_their_split(taken):
    keys = keyed(rows_of(taken[0], PAIRS_FOLDER))
    row = keys["train", "ab", "copreference"]
    assert row == {
        "anchor_id": "a",
        "positive_id": "b",
        "source": "copreference",
        "n_users": 3,
        "weight": 3.5,
        "score": 5.0,
        "last_dt": SECOND,
        "split": "train",
    }
    assert list(row) == PAIRS.names
    assert keys["train", "ba", "copreference"] == {**row, "anchor_id": "b", "positive_id": "a"}


def test_known_holds_every_training_pair_once_the_lesser_id_first(taken):
    rows = rows_of(taken[0], KNOWN_FOLDER)
    assert [row["anchor_id"] + row["positive_id"] for row in rows] == ["ab", "ac", "ad", "ae", "bc", "be", "ce", "ef"]
    assert set(rows[0]) == {"anchor_id", "positive_id"}


def test_popularity_counts_training_songs_before_the_cut_off(taken):
    rows = rows_of(taken[0], POPULARITY_FOLDER)
    assert {row["track_id"]: row["n_baskets"] for row in rows} == {"a": 6, "b": 6, "c": 4, "d": 2, "e": 2}
    assert len(rows) == 5


def test_figures_count_pairs_by_split_and_source(taken):
    splits, sources = [split for split, _, _ in SNAPSHOT], [source for _, _, source in SNAPSHOT]
    both_ways = {frozenset(row[1:3]) for row in PAIR_ROWS if row[3] == "copreference"}
    assert taken[1] == {
        "newest_day": LAST,
        "cutoff_day": CUTOFF,
        "pairs_counted": 2 * len(both_ways) + len([row for row in PAIR_ROWS if row[3] == "triggered"]),
        "pairs": len(SNAPSHOT),
        "pairs_by_split": {split: splits.count(split) for split in set(splits)},
        "pairs_by_source": {source: sources.count(source) for source in set(sources)},
    }


def test_a_second_run_gives_equal_rows_whatever_the_order_of_the_counts(snapshot, taken, tmp_path):
    assert snapshot(tmp_path / "again", turned=True) == taken[1]
    for name in (PAIRS_FOLDER, KNOWN_FOLDER, POPULARITY_FOLDER):
        assert rows_of(tmp_path / "again", name) == rows_of(taken[0], name)


def test_days_before_the_window_do_not_count(snapshot, tmp_path):
    figures = snapshot(tmp_path / "s", window_days=8, warm_test_share=0.5)  # from the second day on
    assert (figures["newest_day"], figures["cutoff_day"]) == (LAST, CUTOFF)
    keys = keyed(rows_of(tmp_path / "s", PAIRS_FOLDER))
    assert {songs for split, songs, _ in keys if split == "train"} == {"ab", "ba", "ad", "da", "ea"}
    assert (keys["train", "ab", "copreference"]["score"], keys["train", "ab", "copreference"]["n_users"]) == (2, 2)
    # Nobody trained on b and c in the window, so they are warm test pairs now.
    assert {("test_warm", "bc", "copreference"), ("test_warm", "cb", "triggered")} <= set(keys)
    heard = {row["track_id"]: row["n_baskets"] for row in rows_of(tmp_path / "s", POPULARITY_FOLDER)}
    assert heard == dict.fromkeys("abde", 2)


def test_no_training_pair_with_enough_users_names_the_setting(snapshot, tmp_path):
    with pytest.raises(
        HTCLError,
        match=r"none of \d+ counted pairs has 4 users and a lift above [\d.]+ in training; lower pairs.min_users",
    ):
        snapshot(tmp_path / "s", min_users=4)
