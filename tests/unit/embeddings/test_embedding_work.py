"""Which rows a model lacks, which stand for no song any more, and how the work is cut."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from htcl.artifacts import ArtifactStore
from htcl.embeddings.work import (
    BYTES_PER_TASK,
    MADE_BY,
    ROWS_PER_FILE,
    Model,
    embeddings_table,
    find_work,
    note_versions,
    part_groups,
    read_songs,
    song_groups,
)
from htcl.ingest.catalog import CATALOG_FILE, CHECKED_CATALOG
from htcl.models.processing_htcl import PROCESSOR_FILE
from htcl.parts import Part
from htcl.schemas import SHARDS, embeddings_schema
from htcl.shards.index import write_index
from htcl.text import text_hash


def songs(*rows):
    """(track, shard, content hash, text) each."""
    names = ["track_id", "shard", "content_hash", "text"]
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    table = table.append_column("offset", pa.array(range(len(rows), 0, -1)))
    return table.append_column("text_hash", pa.array([text_hash(text) for *_, text in rows]))


def rows(model, *known):
    """Rows of the table: (track, content hash, text) each."""
    vector = {"embedding": [1.0, 0.0], "fusion_embedding": None, "model_id": model}
    found = [{"track_id": t, "content_hash": c, "text_hash": text_hash(x), **vector} for t, c, x in known]
    return pa.Table.from_pylist(found, embeddings_schema(2))


@pytest.fixture
def known(tmp_path):
    """A table with the same rows for two models, and its newest version."""
    table = embeddings_table(str(tmp_path), 2)
    for model in ("one", "two"):
        base = fill(table, model, ("a", "1", "x"), ("b", "2", "y"), ("c", "3", "z"))
    return table, base


def fill(table, model, *known, step_version=1):
    """Replace the rows of a model, made by a version of the step; the table's version."""
    part = table.write(rows(model, *known), model)
    return table.commit([part], [model], properties=note_versions(table, [Model("stage2", model)], step_version))


SONGS = songs(("d", "s2", "4", "w"), ("b", "s3", "2", "y!"), ("a", "s1", "1", "x"), ("c", "s1", "5", "z"))


@pytest.mark.parametrize(
    ("stage", "missing", "gone"),
    [("stage1", ["c", "d"], ["c\n3"]), ("stage2", ["c", "d", "b"], ["b\n2", "c\n3"])],
    ids=["a new text leaves stage 1 as it is", "a new text counts for stage 2"],
)
def test_what_is_new_or_changed_is_missing_and_what_stands_for_no_song_leaves(known, stage, missing, gone):
    table, version = known
    work = find_work(table, version, Model(stage, "two"), SONGS, 1)
    assert work.missing["track_id"].to_pylist() == missing  # by shard
    assert sorted("\n".join(name.split("\n")[:2]) for name in work.gone.to_pylist()) == gone
    assert work.kept == 3 - len(gone)


def test_a_model_without_rows_lacks_all(known, tmp_path):
    table, version = known
    for place, at in ((table, version), (embeddings_table(str(tmp_path / "new")), -1)):
        work = find_work(place, at, Model("stage2", "three"), SONGS, 1)
        assert (len(work.missing), len(work.gone), work.kept) == (4, 0, 0)


def work_sizes(table, version, model, step_version):
    work = find_work(table, version, Model("stage2", model), SONGS, step_version)
    return len(work.missing), len(work.gone), work.kept


def test_rows_of_another_version_of_the_step_are_made_anew(known):
    table, version = known
    assert work_sizes(table, version, "one", 1) == (3, 2, 1)
    assert work_sizes(table, version, "one", 2) == (4, 3, 0)
    newer = fill(table, "two", ("a", "1", "x"), step_version=2)
    assert (work_sizes(table, newer, "one", 2), work_sizes(table, newer, "two", 2)) == ((4, 3, 0), (3, 0, 1))
    assert work_sizes(table, newer, "one", 1) == (3, 2, 1)  # what stays keeps its note


def test_rows_of_which_nobody_noted_the_version_are_made_anew(known):
    table, _ = known
    version = table.replace_rows(rows("two", ("a", "1", "x")), ["two"])
    assert work_sizes(table, version, "two", 1) == (4, 1, 0)


def test_only_models_that_have_rows_are_noted(known):
    table, _ = known
    table.commit([], ["one"], properties=table.properties())
    assert note_versions(table, [Model("stage1", "three")], 2)[MADE_BY] == {"two": 1, "three": 2}


def test_songs_come_with_the_text_that_the_model_reads(tmp_path, monkeypatch):
    monkeypatch.setattr("htcl.embeddings.work._TEXTS", 2)
    for kind in ("catalog", "shards", "stage2"):
        (tmp_path / kind).mkdir()
    described = [{"track_id": t, "title": f"T{t}", "tags": ["slow"], "audio_path": t, "split": "train"} for t in "cba"]
    pq.write_table(pa.Table.from_pylist(described, CHECKED_CATALOG), tmp_path / "catalog" / CATALOG_FILE)
    place = {"shard": "s", "offset": 0, "size": 1, "frames": 1, "source_tag": "", "split_group": "", "split": "train"}
    index = [{"track_id": track, "content_hash": f"h{track}", **place} for track in "abc"]
    write_index(pa.Table.from_pylist(index, SHARDS), tmp_path / "shards")
    (tmp_path / "stage2" / PROCESSOR_FILE).write_text('{"text_fields": ["tags", "title"]}')
    monkeypatch.setattr(ArtifactStore, "fetch", lambda _, kind, key: tmp_path / kind)
    found = read_songs(ArtifactStore(""), dict.fromkeys(["catalog", "shards", "stage2"], "key"))
    assert found["text"].to_pylist() == ["slow, Ta", "slow, Tb", "slow, Tc"]
    assert found["text_hash"].to_pylist() == [text_hash(text) for text in found["text"].to_pylist()]
    assert found["content_hash"].to_pylist() == ["ha", "hb", "hc"]


def cut(missing, tasks):
    return [pa.ipc.open_stream(group).read_all() for group in song_groups(missing, tasks)]


def test_groups_take_about_as_long_are_in_order_and_hold_every_song_once():
    missing = songs(*((f"t{n}", f"s{n // 70:02d}", "1", "x") for n in range(1000)))
    sizes = np.random.default_rng(0).integers(1, 1000, 1000)
    missing = missing.append_column("size", pa.array(sizes))
    for tasks in (1, 7, 30):
        groups = cut(missing, tasks)
        assert len(groups) == tasks
        assert pa.concat_tables(groups).equals(missing)
        weights = [pc.sum(group["size"]).as_py() for group in groups]
        assert max(weights) - min(weights) < 2000 + sum(sizes) / tasks / 10
    assert cut(missing.slice(0, 0), 4) == []


def test_no_task_embeds_much_more_than_it_may_repeat():
    big = songs(*(("t", "s", "1", "x") for _ in range(100)))
    big = big.append_column("size", pa.array([BYTES_PER_TASK // 10] * 100))
    assert {len(group) for group in cut(big, tasks=1)} <= {9, 10, 11}


def test_files_are_rewritten_in_few_groups_of_bounded_size():
    parts = [Part(f"p{n}", 1, ROWS_PER_FILE // 4) for n in range(10)]
    groups = part_groups(parts, tasks=1)
    assert [part for group in groups for part in group] == parts
    assert [len(group) for group in groups] == [4, 4, 2]
    assert len(part_groups(parts, tasks=10)) == 10
    assert part_groups([], tasks=1) == []
