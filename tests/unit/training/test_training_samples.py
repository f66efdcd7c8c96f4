"""What a stage trains on: songs or pairs of the training side once each, and what is known to go together."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.errors import HTCLError
from htcl.training.samples import KnownPairs, Samples, stage1_samples, stage2_samples

GROUPS = st.lists(st.integers(0, 9), max_size=12)
PAIRS_OF_GROUPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30)
TRAIN = ("copreference", "train")


def write_pairs(folder, *files, known=()):
    """A pairs artifact: rows (anchor, positive, source, split) in files, and the known pairs."""
    for name in ("pairs", "known"):
        (folder / name).mkdir(parents=True)
    names = ("anchor_id", "positive_id", "source", "split")
    schema = pa.schema([(name, pa.string()) for name in names])
    for number, rows in enumerate(files):
        table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema)
        pq.write_table(table, folder / "pairs" / f"part-{number}.parquet")
    both = pa.Table.from_pylist([dict(zip(names[:2], row, strict=True)) for row in known], pa.schema(list(schema)[:2]))
    pq.write_table(both, folder / "known" / "part-0.parquet")
    return folder


def with_groups(index, groups):
    """The index, where the songs named have another split group than their own."""
    column = pa.array([groups.get(track, track) for track in index["track_id"].to_pylist()])
    return index.set_column(index.schema.get_field_index("split_group"), "split_group", column)


def neighbours(graph, rows, columns):
    return sorted(map(tuple, graph.among(np.array(rows, np.int64), np.array(columns, np.int64)).tolist()))


def test_stage_1_reads_each_training_song_once(world):
    samples = stage1_samples(world.index)
    assert samples.songs.tolist() == [[row] for row in range(12)]  # m and n are held out
    assert samples.frames.tolist() == [len(mel) for mel in world.mels]
    assert len(set(samples.groups.tolist())) == 14 and samples.known is None
    shards = np.asarray(world.index["shard"])[:12]
    assert len(set(zip(shards, samples.blocks.tolist(), strict=True))) == len(set(shards)) > 2
    assert set(samples.blocks.tolist()) == set(range(len(set(shards))))


def test_versions_of_one_work_have_one_group_number(world):
    index = with_groups(world.index, {"c": "sonata", "k": "sonata", "a": "b"})
    groups = stage1_samples(index).groups.tolist()
    assert groups[2] == groups[10] and groups[0] == groups[1] and len(set(groups)) == 12


def test_stage_2_reads_each_training_pair_with_audio_once_in_order_of_ids(world, tmp_path):
    rows = [
        ("c", "a", *TRAIN),
        ("a", "l", *TRAIN),
        ("a", "c", *TRAIN),
        ("a", "c", "triggered", "train"),
        ("a", "no audio", *TRAIN),
        ("no audio", "a", *TRAIN),
        ("a", "b", "copreference", "test_warm"),
        ("a", "m", "copreference", "test_cold"),
    ]
    samples = stage2_samples(world.index, write_pairs(tmp_path / "one", rows))
    assert samples.songs.tolist() == [[0, 2], [0, 11], [2, 0]]
    songs = stage1_samples(world.index)
    assert samples.blocks.tolist() == songs.blocks[[0, 0, 2]].tolist()
    np.testing.assert_array_equal(samples.frames, songs.frames)
    np.testing.assert_array_equal(samples.groups, songs.groups)
    files = write_pairs(tmp_path / "other", rows[:1:-1], rows[:2])
    assert stage2_samples(world.index, files).songs.tolist() == samples.songs.tolist()


def test_no_training_pair_is_no_sample(world, tmp_path):
    folder = write_pairs(tmp_path / "pairs", [("a", "b", "copreference", "test_warm")])
    assert stage2_samples(world.index, folder).songs.shape == (0, 2)


@pytest.mark.parametrize("held_out", ["m", "n"])
@pytest.mark.parametrize("pair", ["{}b", "b{}"])
def test_a_training_pair_with_a_held_out_song_is_an_error(world, tmp_path, held_out, pair):
    folder = write_pairs(tmp_path / "pairs", [("a", "b", *TRAIN), (*pair.format(held_out), *TRAIN)])
    with pytest.raises(HTCLError, match="disagree about the split"):
        stage2_samples(world.index, folder)


def test_known_pairs_go_beyond_the_training_pairs_and_hold_for_all_versions(world, tmp_path):
    index = with_groups(world.index, {"d": "sonata", "k": "sonata"})
    known = [("a", "b"), ("a", "d"), ("b", "no audio"), ("c", "l")]
    samples = stage2_samples(index, write_pairs(tmp_path / "pairs", [("a", "b", *TRAIN)], known=known))
    a, b, c, d, k, last = (int(samples.groups[row]) for row in (0, 1, 2, 3, 10, 11))
    assert neighbours(samples.known, [a, b, c], [a, b, d, k, last]) == [(0, 1), (0, 2), (0, 3), (1, 0), (2, 4)]
    assert neighbours(samples.known, [k, last], [a, b, c]) == [(0, 0), (1, 2)]


@settings(max_examples=50)
@given(PAIRS_OF_GROUPS, GROUPS, GROUPS)
def test_known_pairs_are_found_where_a_search_finds_them(pairs, rows, columns):
    graph = KnownPairs.of(np.array(pairs, np.int64).reshape(-1, 2), groups=10)
    known = {*pairs, *((b, a) for a, b in pairs)}
    expected = [(i, j) for i, row in enumerate(rows) for j, column in enumerate(columns) if (row, column) in known]
    assert neighbours(graph, rows, columns) == expected


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=40))
def test_the_probability_of_a_song_is_its_share_of_the_samples(pairs):
    samples = Samples(np.array(pairs), np.zeros(len(pairs), np.int64), np.full(8, 20, np.int32), np.arange(8))
    found = samples.log_q()
    assert found.shape == (8, 2) and found.dtype == np.float32
    for place in (0, 1):
        counts = Counter(pair[place] for pair in pairs)
        expected = [np.log((counts[row] or 0.5) / len(pairs)) for row in range(8)]
        np.testing.assert_allclose(found[:, place], expected, rtol=1e-6, atol=1e-7)
        total = np.exp(found[list(counts), place].astype(np.float64)).sum()
        np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_each_song_of_stage_1_is_equally_likely(world):
    samples = stage1_samples(world.index)
    np.testing.assert_allclose(samples.log_q()[:12], -np.log(12), rtol=1e-6)
