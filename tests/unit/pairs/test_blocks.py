"""Rows between tasks: what is packed comes out as it was, with no more words than it needs."""

from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htcl.pairs.blocks import COUNTS, EVENTS, counts_table, pack, shared_out, song_codes, table_counts, unpack
from htcl.pairs.counting import Counts, empty_counts
from htcl.pairs.sketches import offsets_of
from tests.unit.pairs.reference import as_dict

SONG = EVENTS.field("track").type
WORDS = st.one_of(st.none(), st.sampled_from(["b", "a", "", "ä", "aa", "日本", "B"]))
moderate = settings(max_examples=30)


def songs(*chunks):
    """A column of songs, every chunk with a dictionary of its own."""
    return pa.chunked_array([pa.array(chunk, pa.string()).dictionary_encode() for chunk in chunks], type=SONG)


def events(tracks, triggers):
    n = len(tracks)
    columns = {field.name: pa.array(range(n), field.type) for field in EVENTS if field.type != SONG}
    columns |= {"track": songs(tracks), "trigger": songs(triggers)}
    return pa.table([columns[name] for name in EVENTS.names], schema=EVENTS)


PAIRS = st.lists(st.tuples(WORDS, WORDS), max_size=12)


def rows_of(pairs):
    return events([track for track, _ in pairs], [trigger for _, trigger in pairs])


@moderate
@given(st.lists(PAIRS, max_size=4))
def test_blocks_come_out_in_order_as_they_were_packed(parts):
    tables = [rows_of(pairs) for pairs in parts]
    rows = unpack([pack(table) for table in tables])
    if not parts:
        assert rows is None
        return
    assert rows.schema == EVENTS
    assert rows.to_pylist() == [row for table in tables for row in table.to_pylist()]


@moderate
@given(st.lists(st.tuples(WORDS, WORDS, st.integers(0, 3)), max_size=20))
def test_each_part_gets_its_rows_in_order_and_only_the_words_it_needs(rows):
    table = rows_of([row[:2] for row in rows])
    part = np.array([number for *_, number in rows], dtype=np.int64)
    blocks = list(shared_out(table, part, 5))
    assert [number for number, _ in blocks] == sorted(set(part.tolist()))
    for number, block in blocks:
        found = unpack([block])
        assert found.schema == EVENTS
        assert found.to_pylist() == [row for row, p in zip(table.to_pylist(), part, strict=True) if p == number]
        for name in ("track", "trigger"):
            words = found[name].combine_chunks().dictionary.to_pylist()
            assert sorted(words) == sorted({word for word in found[name].to_pylist() if word is not None})


def test_rows_of_several_dictionaries_are_shared_out_alike():
    table = pa.concat_tables([events(["b", None], ["x", "y"]), events(["a", "b"], [None, None])])
    found = {number: unpack([block]).to_pylist() for number, block in shared_out(table, np.array([1, 0, 1, 0]), 2)}
    rows = table.to_pylist()
    assert found == {0: [rows[1], rows[3]], 1: [rows[0], rows[2]]}


@moderate
@given(st.lists(st.lists(WORDS, max_size=5), min_size=1, max_size=3), st.lists(WORDS, max_size=5))
def test_codes_order_as_ids_do_and_null_is_minus_one(tracks, triggers):
    (track, trigger), ids = song_codes(songs(*tracks), songs(triggers))
    known = ids.to_pylist()
    # As UTF-8 bytes, which is how codes are compared on any machine.
    assert known == sorted(set(known), key=lambda word: word.encode())
    for codes, words in ((track, list(chain(*tracks))), (trigger, triggers)):
        assert [None if code == -1 else known[code] for code in codes] == words


def test_columns_without_chunks_have_no_codes():
    codes, ids = song_codes(pa.chunked_array([], SONG), pa.chunked_array([], SONG))
    assert [code.tolist() for code in codes] == [[], []] and ids.to_pylist() == []


@st.composite
def counts(draw):
    """Counts over three songs, in order."""
    key = st.tuples(st.integers(-5, 30_000), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))
    keys = sorted(draw(st.sets(key, max_size=8)))
    number = st.integers(0, 2**62)
    figures = [draw(st.tuples(number, number, number, number)) for _ in keys]
    sketches = [sorted(draw(st.sets(number, max_size=3))) for _ in keys]
    day, source, anchor, positive = np.array(keys, dtype=np.int64).reshape(-1, 4).T
    users = np.array(list(chain(*sketches)), dtype=np.int64)
    sizes = np.array([len(sketch) for sketch in sketches], dtype=np.int64)
    stacked = np.array(figures, dtype=np.int64).reshape(-1, 4).T
    return Counts(day, source, anchor, positive, stacked, users, offsets_of(sizes))


def by_song(found, ids):
    """`as_dict` with songs by their ids."""
    return {(day, source, ids[a].as_py(), ids[b].as_py()): rest for (day, source, a, b), rest in as_dict(found).items()}


@moderate
@given(counts(), st.permutations(["a", "b", "c"]))
def test_counts_survive_the_way_through_rows(before, names):
    ids = pa.array(names)
    rows = counts_table(before, ids)
    assert rows.schema == COUNTS
    after, known = table_counts(unpack([pack(rows)]))
    # Codes order as ids do now, and rows stay where they were.
    order = np.lexsort(after.key[::-1])
    assert {
        (day, source, known[a].as_py(), known[b].as_py()): figures
        for day, source, a, b, figures in zip(*(c.tolist() for c in after.key), after.figures.T.tolist(), strict=True)
    } == {key: list(value[:4]) for key, value in by_song(before, ids).items()}
    assert after.day.tolist() == before.day.tolist() and len(order) == len(before.day)
    assert after.users.tolist() == before.users.tolist() and after.offsets.tolist() == before.offsets.tolist()


@pytest.mark.parametrize("parts", [1, 3])
def test_no_counts_make_no_rows(parts):
    rows = counts_table(empty_counts(), pa.array([], pa.string()))
    assert as_dict(table_counts(pa.concat_tables([rows] * parts))[0]) == {}
    assert list(shared_out(rows, np.zeros(0, np.int64), 4)) == []


def test_counts_of_several_blocks_are_read_as_rows_of_all():
    one = Counts(
        *(np.array([n]) for n in (1, 0, 0, 1)), np.array([[1], [2], [3], [4]]), np.array([5, 7]), np.array([0, 2])
    )
    other = Counts(
        *(np.array([n]) for n in (2, 2, 1, 0)), np.array([[5], [6], [7], [8]]), np.zeros(0, np.int64), np.array([0, 0])
    )
    blocks = [pack(counts_table(one, pa.array(["x", "y"]))), pack(counts_table(other, pa.array(["w", "x"])))]
    found, ids = table_counts(unpack(blocks))
    assert by_song(found, ids) == {(1, 0, "x", "y"): (1, 2, 3, 4, (5, 7)), (2, 2, "x", "w"): (5, 6, 7, 8, ())}
