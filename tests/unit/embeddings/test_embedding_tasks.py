"""What a task writes: rows of one model as one file of the table, of the model's own width."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from htcl.artifacts import ArtifactStore, Recipe
from htcl.embeddings.embedder import SongEmbedder
from htcl.embeddings.tasks import _load, embed_group, rewrite_parts
from htcl.embeddings.work import Model, embeddings_table, find_work, note_versions, song_groups

THREADS = torch.get_num_threads()


@pytest.fixture
def workspace(tmp_path, world, tiny_model, processor):
    """A workspace with the shards of the world and a model of stage 2."""
    folder = tmp_path / "workspace"
    shutil.copytree(world.shards, folder / "shards")
    with ArtifactStore(str(folder)).create(Recipe("stage2", 1, {}, {})) as draft:
        tiny_model(2).save_pretrained(draft.path)
        processor.save_pretrained(draft.path)
    return str(folder)


@pytest.fixture
def model():
    return Model("stage2", Recipe("stage2", 1, {}, {}).key)


@pytest.fixture
def songs(world):
    found = world.index.select(["track_id", "shard", "offset", "size", "content_hash"])
    texts = pa.array([f"song {track}" for track in found["track_id"].to_pylist()])
    return found.append_column("text", texts).append_column("text_hash", texts)


def embed(workspace, model, songs, tasks=3):
    table = embeddings_table(workspace)
    work = find_work(table, table.version(), model, songs, 1)
    return [embed_group(group, workspace, model, 4, "cpu", THREADS) for group in song_groups(work.missing, tasks)]


def content(table):
    rows = table.read().sort_by("track_id")
    return rows["track_id"].to_pylist(), np.array(rows["embedding"].to_pylist(), np.float32)


def test_tasks_write_files_that_only_a_commit_shows(workspace, model, songs):
    table = embeddings_table(workspace)
    parts = embed(workspace, model, songs)
    assert len(parts) > 1
    assert {part.partition for part in parts} == {model.key}
    assert not table.exists()
    noted = note_versions(table, [model], 1)
    table.commit(parts, replace=[], append=[model.key], base=-1, properties=noted)
    tracks, vectors = content(table)
    assert tracks == sorted(songs["track_id"].to_pylist())
    assert vectors.shape == (len(songs), 8)
    assert sum(part.rows for part in parts) == len(songs)
    assert not embed(workspace, model, songs)  # nothing is missing any more


def test_a_file_holds_vectors_of_fixed_size(workspace, model, songs):
    part = embed(workspace, model, songs)[0]
    schema = pq.read_schema(Path(workspace) / "tables" / "embeddings" / part.path)
    for name in ("embedding", "fusion_embedding"):
        assert schema.field(name).type == pa.list_(pa.field("element", pa.float32()), 8)


def test_the_model_is_loaded_once_for_all_groups(workspace, model, songs):
    SongEmbedder.load.cache_clear()
    _load.cache_clear()
    assert len(embed(workspace, model, songs)) > 1
    assert SongEmbedder.load.cache_info().misses == 1


def test_rows_that_stay_are_written_anew_without_those_that_leave(workspace, model, songs):
    table = embeddings_table(workspace)
    noted = note_versions(table, [model], 1)
    version = table.commit(embed(workspace, model, songs), replace=[], append=[model.key], properties=noted)
    tracks, vectors = content(table)
    work = find_work(table, version, model, songs.slice(2), 1)
    parts = rewrite_parts(table.parts(), workspace, model, work.gone)
    table.commit(parts, replace=[model.key], base=version, properties=noted)
    assert [part.rows for part in parts] == [len(songs) - 2] == [work.kept]
    assert content(table)[0] == tracks[2:]
    np.testing.assert_array_equal(content(table)[1], vectors[2:])
    assert rewrite_parts(table.parts(), workspace, model, find_work(table, 1, model, songs.slice(99), 1).gone) == []


def test_files_of_an_older_writer_are_rewritten_beside_newer_ones(workspace, model, songs):
    table = embeddings_table(workspace)
    new = embed(workspace, model, songs.slice(4))
    old = embed(workspace, model, songs.slice(0, 4), tasks=1)[0]
    path = Path(table.uri) / old.path
    rows = pq.ParquetFile(path).read()
    loose = pa.list_(pa.float32())
    for name in ("embedding", "fusion_embedding"):
        at = rows.schema.get_field_index(name)
        values = [None] * len(rows) if name == "fusion_embedding" else rows[name].to_pylist()
        rows = rows.set_column(at, name, pa.array(values, loose))
    pq.write_table(rows, path)
    part = rewrite_parts([old, *new], workspace, model, pa.array([], pa.string()))[0]
    assert part.rows == len(songs)


def test_models_of_different_width_share_the_table(workspace, model, songs):
    table = embeddings_table(workspace)
    wide = Model("stage1", "wide")
    rows = {"track_id": "a", "model_id": "wide", "embedding": [1.0] + [0.0] * 15, "content_hash": "h"}
    other = embeddings_table(workspace, 16)
    part = other.write(pa.Table.from_pylist([rows], other.schema), wide.key)
    table.commit([part, *embed(workspace, model, songs)], replace=[], append=[wide.key, model.key], base=-1)
    widths = [len(vector) for vector in table.read()["embedding"].to_pylist()]
    assert sorted(widths) == [8] * len(songs) + [16]
