"""Daily counts to a snapshot: scores, thresholds, decay, window and split against values counted by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from snapshot import _cutoff, _first_day, take_snapshot

from htcl.artifacts import ArtifactStore, Recipe
from htcl.errors import HTCLError
from htcl.pairs import KNOWN_FOLDER, PAIRS_FOLDER, POPULARITY_FOLDER, QUALITY_FOLDER
from htcl.pairs.counting import WEIGHT_ONE
from htcl.pairs.store import bucket_name, pair_table
from htcl.schemas import PAIR_COUNTS, PAIRS

NEWEST = "2025-03-31"


def pair(songs, n=1, *, dt=NEWEST, source="copreference", users=(1, 2), weight=None, negative=0, shown=0):
    """A row of PAIR_COUNTS: two songs as two letters, the weight in baskets."""
    weight = int((n if weight is None else weight) * WEIGHT_ONE)
    return dict(
        zip(PAIR_COUNTS.names, (dt, source, songs[0], songs[1], n, weight, negative, shown, list(users)), strict=True)
    )


def item(song, n, share=None, *, dt=NEWEST):
    """An item row, the weight in baskets."""
    return pair(song * 2, n, dt=dt, source="item", users=(), weight=round((n / 2 if share is None else share), 9))


@pytest.fixture(scope="module")
def snapshot(spark, configured, make_songs, tmp_path_factory):
    """Write counts, take a snapshot of them; returns (folder of the artifact, figures)."""

    def take(
        rows, sides, *, artists=None, workspace=None, warm_test_share=0.25, cutoff_day=None, turned=False, **section
    ):
        workspace = workspace or tmp_path_factory.mktemp("snapshot")
        config = configured(
            workspace=str(workspace),
            pairs={"min_users": 1, "min_lift": 0, **section},
            split={"warm_test_share": warm_test_share, "cutoff_day": cutoff_day},
            interactions={"max_reject_share": 1},
        )
        version = write(config.workspace, rows[::-1] if turned else rows)
        inputs = make_songs(workspace, sides, artists)
        recipe = Recipe("pairs", 0, {}, {})
        store = ArtifactStore(config.workspace)
        with store.create(recipe) as draft:
            take_snapshot(spark, config, inputs, version, draft)
        return store.fetch("pairs", recipe.key), store.manifest("pairs", recipe.key)["figures"]

    return take


def write(workspace, rows):
    """Commit rows of PAIR_COUNTS; returns the version."""
    table = pair_table(workspace)
    days = sorted({row["dt"] for row in rows})
    parts = []
    for day in days:
        found = pa.Table.from_pylist([row for row in rows if row["dt"] == day], schema=PAIR_COUNTS)
        parts.append(table.write(found, day, bucket_name(0, 1)))
    return table.commit(parts, True)


def rows_of(folder, name):
    rows = ds.dataset(folder / name, format="parquet").to_table().to_pylist()
    return sorted(rows, key=lambda row: [str(value) for value in row.values()])


def keyed(rows):
    found = {(row["split"], row["anchor_id"] + row["positive_id"], row["source"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def trained(folder, source="copreference"):
    """Training pairs of one source: two letters -> row."""
    rows = keyed(rows_of(folder, PAIRS_FOLDER))
    return {songs: row for (split, songs, found), row in rows.items() if (split, found) == ("train", source)}


def cosine(n, n_a, n_b):
    return n / np.sqrt(n_a * n_b)


def npmi(n, n_a, n_b):
    p, p_a, p_b = n / 8, n_a / 8, n_b / 8
    return np.log(p / (p_a * p_b)) / -np.log(p)


def bm25(n, n_a, n_b):
    length = n_a / np.mean([4, 3, 6])
    return np.log(1 + (8 - n_b + 0.5) / (n_b + 0.5)) * n * 2.2 / (n + 1.2 * (0.25 + 0.75 * length))


FORMULAS = {"count": lambda n, n_a, n_b: n, "cosine": cosine, "npmi": npmi, "bm25": bm25}
# Eight baskets: a in 4, b in 3, c in 6.
SONGS = {"a": 4.0, "b": 3.0, "c": 6.0}
SHARES = {"a": 2.0, "b": 1.5, "c": 4.5}
TOGETHER = {"ab": 2.0, "ac": 3.0, "bc": 1.0}
ALL_TRAIN = dict.fromkeys("abcdefgh", "train")


@pytest.mark.parametrize("score", FORMULAS)
def test_scores_are_their_formulas(snapshot, score):
    rows = [pair(songs, int(n)) for songs, n in TOGETHER.items()]
    rows += [item(song, int(n), SHARES[song]) for song, n in SONGS.items()]
    folder, _ = snapshot(rows, ALL_TRAIN, warm_test_share=0, score=score)
    both = {**TOGETHER, **{songs[::-1]: n for songs, n in TOGETHER.items()}}
    expected = {songs: FORMULAS[score](n, SONGS[songs[0]], SONGS[songs[1]]) for songs, n in both.items()}
    assert {songs: row["score"] for songs, row in trained(folder).items()} == pytest.approx(expected, rel=1e-9)


def test_npmi_of_a_pair_that_stands_in_every_basket_is_one(snapshot):
    rows = [pair("ab", 4), item("a", 4, 2), item("b", 4, 2)]
    folder, _ = snapshot(rows, ALL_TRAIN, warm_test_share=0, score="npmi")
    assert [row["score"] for row in trained(folder).values()] == pytest.approx([1, 1], abs=1e-9)


def test_a_trigger_song_without_a_basket_of_its_own_counts_as_often_as_the_pair(snapshot):
    rows = [pair("ab", 2, source="triggered"), pair("ca", 6, source="triggered"), item("b", 8, 8), item("a", 4, 4)]
    found = trained(snapshot(rows, ALL_TRAIN, warm_test_share=0, score="cosine")[0], "triggered")
    assert found["ab"]["score"] == pytest.approx(2 / np.sqrt(4 * 8))
    # c stands in no basket and a in fewer than the pair: neither is less than the pair itself.
    assert found["ca"]["score"] == pytest.approx(6 / np.sqrt(6 * 6))


def test_impressions_and_refusals_turn_triggered_pairs_into_rates(snapshot):
    rows = [
        pair("ab", 3, source="triggered", negative=1, shown=12),
        pair("ac", 3, source="triggered", negative=1),
        pair("ad", 3, source="triggered"),
        pair("ae", 0, source="triggered", negative=2, shown=9, users=[]),
        *(item(song, 8) for song in "abcd"),
    ]
    found = trained(snapshot(rows, ALL_TRAIN, warm_test_share=0, score="count")[0], "triggered")
    assert {songs: (row["rate"], row["score"]) for songs, row in found.items()} == {
        "ab": (0.25, 0.25),
        "ac": (0.75, 0.75),
        "ad": (None, 3),
    }


def test_copreference_needs_more_lift_than_asked_for_and_triggered_pairs_none(snapshot):
    # Four baskets: ab meets as often as chance has it, ac twice as often, cd half as often.
    rows = [item(song, n, share) for song, n, share in (("a", 2, 1), ("b", 2, 1), ("c", 2, 1), ("d", 4, 1))]
    rows += [pair("ab", 1), pair("ac", 2), pair("cd", 1), pair("ab", 1, source="triggered")]
    rows += [pair("cd", 1, source="triggered")]
    for min_lift, kept in ((0.5, {"ab", "ba", "ac", "ca"}), (1, {"ac", "ca"})):
        folder, _ = snapshot(rows, ALL_TRAIN, warm_test_share=0, min_lift=min_lift)
        assert set(trained(folder)) == kept
        assert set(trained(folder, "triggered")) == {"ab", "cd"}


def test_pairs_of_too_few_users_are_dropped_and_days_share_users(snapshot):
    rows = [
        pair("ab", users=[1, 2]),
        pair("ab", users=[2, 3], dt="2025-03-30"),
        pair("ac", users=[1, 2]),
        pair("ac", users=[1, 2], dt="2025-03-30"),
        *(item(song, 4) for song in "abc"),
    ]
    found = trained(snapshot(rows, ALL_TRAIN, warm_test_share=0, min_users=3)[0])
    assert {songs: row["n_users"] for songs, row in found.items()} == {"ab": 3, "ba": 3}


def test_a_basket_counts_half_after_each_half_life(snapshot):
    days = {"2025-03-31": 1, "2025-03-29": 2, "2025-03-27": 4}  # after 0, 1 and 2 half-lives one basket each
    rows = [pair("ab", n, dt=day, weight=n / 2) for day, n in days.items()]
    rows += [item(song, n, n / 2, dt=day) for day, n in days.items() for song in "ab"]
    rows.append(item("a", 8, 8, dt="2025-03-23"))  # four half-lives: half a basket
    row = trained(snapshot(rows, ALL_TRAIN, warm_test_share=0, half_life_days=2)[0])["ab"]
    assert (row["weight"], row["last_dt"]) == (1.5, "2025-03-31")
    assert row["score"] == pytest.approx(3 / np.sqrt(3.5 * 3))
    plain = trained(snapshot(rows, ALL_TRAIN, warm_test_share=0, score="count")[0])["ab"]
    assert (plain["score"], plain["weight"]) == (7, 3.5)


def test_symmetric_sources_count_both_ways_and_others_one(snapshot):
    rows = [pair("ab", 2, users=[1]), pair("ab", 1, source="triggered", users=[2])]
    rows += [pair("ba", 3, source="triggered", users=[3]), *(item(song, 9) for song in "ab")]
    one = {"warm_test_share": 0, "score": "count", "min_users": 1}
    folder, _ = snapshot(rows, ALL_TRAIN, **one)
    assert {songs: row["score"] for songs, row in trained(folder).items()} == {"ab": 2, "ba": 2}
    assert {songs: row["score"] for songs, row in trained(folder, "triggered").items()} == {"ab": 1, "ba": 3}
    folder, _ = snapshot(rows, ALL_TRAIN, symmetric_sources=["triggered"], **one)
    assert {songs: row["score"] for songs, row in trained(folder).items()} == {"ab": 2}
    both = {songs: (row["score"], row["n_users"]) for songs, row in trained(folder, "triggered").items()}
    assert both == {"ab": (4, 2), "ba": (4, 2)}


@pytest.mark.parametrize(
    ("share", "top_k", "kept"),
    [
        (1.0, 4, {"ab", "ac", "ad", "ae"}),
        (0.5, 4, {"ab", "ac", "af", "ag"}),
        (0.25, 4, {"ab", "af", "ag", "ah"}),
        (0.5, 50, {"ab", "ac", "ad", "af", "ag", "ah"}),
        (0.25, 50, {"ab", "af", "ag", "ah"}),
    ],
)
def test_an_artist_has_at_most_its_share_of_the_positives_of_its_songs(snapshot, share, top_k, kept):
    # b to e are by the artist of a and better than f to h.
    rows = [pair(f"a{song}", 20 - n) for n, song in enumerate("bcdefgh")] + [item(song, 30) for song in "abcdefgh"]
    artists = {**dict.fromkeys("abcde", "one"), **dict.fromkeys("fg", "two")}
    section = {"score": "count", "top_k": top_k, "max_artist_share": share}
    folder, _ = snapshot(rows, ALL_TRAIN, artists=artists, warm_test_share=0, **section)
    assert {songs for songs in trained(folder) if songs[0] == "a"} == kept


def test_songs_that_the_shards_lack_are_counted_and_named(snapshot, tmp_path):
    rows = [pair("ab", 4), pair("az", 4), *(item(song, 4) for song in "ab"), item("z", 2)]
    folder, figures = snapshot(rows, {"a": "train", "b": "train"}, workspace=tmp_path, warm_test_share=0)
    assert set(trained(folder)) == {"ab", "ba"}
    assert figures["unknown_songs"] == 1
    from htcl.schemas import REJECTS
    from htcl.tables import GrowingTable

    (row,) = GrowingTable(str(tmp_path), "rejects", REJECTS, partition_by="source").read().to_pylist()
    assert (row["source"], row["key"], row["reason"]) == ("pairs", "z", "unknown_track")
    assert row["detail"].startswith("in 2 baskets, newest 2025-03-31")


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
def taken(snapshot):
    return world_snapshot(snapshot)


def world_snapshot(snapshot, **section):
    rows = PAIR_ROWS + ITEM_ROWS
    return snapshot(rows, SIDES, **{"min_users": 2, "score": "count", "top_k": 2, **section})


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
        "rate": None,
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
    enough = {(row["source"], row["anchor_id"], row["positive_id"]) for row in PAIR_ROWS} - {("copreference", "a", "f")}
    expected = {
        "newest_day": LAST,
        "first_day": "0001-01-01",
        "cutoff_day": CUTOFF,
        "pairs_counted": len(enough),
        "pairs": len(SNAPSHOT),
        "pairs_by_split": {split: splits.count(split) for split in set(splits)},
        "pairs_by_source": {source: sources.count(source) for source in set(sources)},
        "positives_per_anchor": {"min": 1, "median": 2, "p90": 3, "max": 3},
        "unknown_songs": 0,
    }
    assert {name: taken[1][name] for name in expected} == expected
    assert 0 < taken[1]["popularity_gini"] < 1


def test_quality_holds_the_degrees_of_the_pairs_and_how_unequal_songs_are(taken):
    rows = [row for row in rows_of(taken[0], QUALITY_FOLDER) if row["dt"] is None]
    degrees = {float(row["name"]): row["value"] for row in rows if row["measure"] == "positives_per_anchor"}
    trained = [songs[0] for split, songs, _ in SNAPSHOT if split == "train"]
    anchors = [trained.count(anchor) for anchor in set(trained)]
    assert degrees == {n: anchors.count(n) for n in set(anchors)}
    ginis = {row["name"]: row["value"] for row in rows if row["measure"] == "gini"}
    assert ginis == {"popularity": taken[1]["popularity_gini"], "positive": taken[1]["positive_gini"]}


def test_a_second_run_gives_equal_rows_whatever_the_order_of_the_counts(snapshot, taken):
    folder, figures = world_snapshot(snapshot, turned=True)
    assert figures == taken[1]
    for name in (PAIRS_FOLDER, KNOWN_FOLDER, POPULARITY_FOLDER):
        assert rows_of(folder, name) == rows_of(taken[0], name)


def test_days_before_the_window_do_not_count(snapshot):
    folder, figures = world_snapshot(snapshot, window_days=8, warm_test_share=0.5)  # from the second day on
    assert (figures["newest_day"], figures["cutoff_day"]) == (LAST, CUTOFF)
    keys = keyed(rows_of(folder, PAIRS_FOLDER))
    assert {songs for split, songs, _ in keys if split == "train"} == {"ab", "ba", "ad", "da", "ea"}
    assert (keys["train", "ab", "copreference"]["score"], keys["train", "ab", "copreference"]["n_users"]) == (2, 2)
    # Nobody trained on b and c in the window, so they are warm test pairs now.
    assert {("test_warm", "bc", "copreference"), ("test_warm", "cb", "triggered")} <= set(keys)
    heard = {row["track_id"]: row["n_baskets"] for row in rows_of(folder, POPULARITY_FOLDER)}
    assert heard == dict.fromkeys("abde", 2)


def test_no_training_pair_with_enough_users_names_the_setting(snapshot):
    with pytest.raises(HTCLError, match=r"none of \d+ pairs with 4 users has songs .* lower pairs.min_users"):
        world_snapshot(snapshot, min_users=4)


def test_days_that_are_named_bound_the_window(snapshot):
    share, _ = world_snapshot(snapshot, window_days=8, warm_test_share=0.5)
    named, figures = world_snapshot(snapshot, first_day=SECOND, cutoff_day=CUTOFF, warm_test_share=0.1)
    assert (figures["first_day"], figures["cutoff_day"]) == (SECOND, CUTOFF)
    assert rows_of(named, PAIRS_FOLDER) == rows_of(share, PAIRS_FOLDER)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"first_day": "2025-04-01"}, "pairs.first_day = 2025-04-01 lies after the newest day of the log, 2025-03-10"),
        ({"cutoff_day": "2025-04-01"}, "split.cutoff_day = 2025-04-01 leaves one side without days"),
        ({"first_day": SECOND, "cutoff_day": SECOND}, "split.cutoff_day = 2025-03-03 leaves one side without days"),
    ],
)
def test_days_that_leave_nothing_are_named(snapshot, settings, sentence):
    with pytest.raises(HTCLError, match=sentence):
        world_snapshot(snapshot, **settings)
