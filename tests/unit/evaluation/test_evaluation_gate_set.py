import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl.evaluation.gate_set import gate_songs

N = 1000


def index(n=N, first=0):
    names = [f"t{number}" for number in range(first, n)]
    groups = [f"g{number // 2}" for number in range(first, n)]  # two versions of a work each
    sides = ["test" if number // 2 % 3 == 0 else "train" for number in range(first, n)]
    return pa.table({"track_id": names, "split_group": groups, "split": sides})


@pytest.fixture
def pairs(tmp_path):
    """Each held-out song has one positive, as have some training songs after the cut-off."""
    (tmp_path / "pairs").mkdir()
    rows = [(f"t{n}", f"t{(n * 7 + 3) % N}", "test_cold") for n in range(N) if n // 2 % 3 == 0]
    rows += [(f"t{n}", f"t{(n * 11 + 5) % N}", "test_warm") for n in range(N) if n // 2 % 3 == 1]
    rows += [(f"t{n}", f"t{(n + 1) % N}", "train") for n in range(N)]
    table = pa.table(dict(zip(("anchor_id", "positive_id", "split"), zip(*rows, strict=True), strict=True)))
    pq.write_table(table, tmp_path / "pairs" / "part-0.parquet")
    return tmp_path


def chosen(songs, pairs, limit):
    found = gate_songs(songs, pairs, limit).to_pylist()
    assert found == sorted(found)
    assert len(set(found)) == len(found)
    return set(found)


def test_a_small_catalog_is_a_gate_set_as_a_whole(pairs):
    assert chosen(index(), pairs, N) == {f"t{n}" for n in range(N)}


def test_a_large_catalog_gives_as_many_songs_as_asked_for(pairs):
    assert len(chosen(index(), pairs, 200)) == 200


def test_held_out_songs_songs_of_the_newest_days_and_their_positives_are_in_it(pairs):
    found = chosen(index(), pairs, 400)
    positives = {
        row["anchor_id"]: row["positive_id"]
        for row in pq.read_table(pairs / "pairs").to_pylist()
        if row["split"] != "train"
    }
    cold = {track for track in found if int(track[1:]) // 2 % 3 == 0}
    warm = {track for track in found - cold if track in positives}
    assert len(cold) >= 100 and len(warm) >= 100
    answered = [track for track in found if positives.get(track) in found]
    assert len(answered) >= 150


def test_versions_of_a_work_come_together(pairs):
    held_out = {t for t in chosen(index(), pairs, 200) if int(t[1:]) // 2 % 3 == 0}
    first = [t for t in held_out if f"t{int(t[1:]) ^ 1}" in held_out]
    assert len(first) >= 0.6 * len(held_out)  # positives of others come alone


def test_the_same_songs_are_taken_day_after_day(pairs):
    """Of the held-out songs, those that a growing catalog brings only push out the last ones."""
    before, after = (chosen(songs, pairs, 200) for songs in (index(900), index(1000)))
    held_out = [{t for t in found if int(t[1:]) // 2 % 3 == 0} for found in (before, after)]
    assert len(held_out[0] & held_out[1]) >= 0.7 * len(held_out[0])


def test_the_order_of_the_index_does_not_matter(pairs):
    songs = index()
    assert chosen(songs, pairs, 150) == chosen(songs.take(pa.array(range(N - 1, -1, -1))), pairs, 150)


def test_songs_that_have_no_positive_do(tmp_path):
    (tmp_path / "pairs").mkdir()
    none = pa.table({name: pa.array([], pa.string()) for name in ("anchor_id", "positive_id", "split")})
    pq.write_table(none, tmp_path / "pairs" / "part-0.parquet")
    assert len(chosen(index(), tmp_path, 50)) == 50
