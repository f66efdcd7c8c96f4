"""Embeddings by streaming shards: every wanted song, the same as by itself, or an error."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from htcl.embeddings.embedder import SongEmbedder, unit
from htcl.embeddings.tasks import embed_songs
from htcl.errors import HTCLError


@pytest.fixture
def embedder(tiny_model, processor):
    return SongEmbedder(tiny_model(2), processor)


@pytest.fixture
def wanted(world):
    """All songs but one, with a text, as a task gets them."""
    songs = world.index.select(["track_id", "shard", "offset", "size", "content_hash"]).slice(1)
    songs = songs.sort_by([("shard", "ascending"), ("offset", "ascending")])
    texts = [f"song {track}" for track in songs["track_id"].to_pylist()]
    songs = songs.append_column("text", pa.array(texts))
    return songs.append_column("text_hash", pa.array([f"t {text}" for text in texts]))


@pytest.fixture
def shard(world, wanted):
    """The first wanted shard, and the songs in it."""
    name = wanted["shard"][0].as_py()
    return Path(world.shards) / name, [row for row in world.index.to_pylist() if row["shard"] == name]


def stream(embedder, world, songs, fused=True, batch_size=2):
    return pa.concat_tables(embed_songs(embedder, world.shards, songs, fused, batch_size))


@pytest.mark.parametrize("fused", [True, False])
def test_every_wanted_song_is_embedded_as_it_is_alone(embedder, wanted, world, fused):
    found = stream(embedder, world, wanted, fused)
    assert sorted(found["track_id"].to_pylist()) == sorted(wanted["track_id"].to_pylist())
    tracks, expected = world.index["track_id"].to_pylist(), {row["track_id"]: row for row in wanted.to_pylist()}
    for row in found.to_pylist():
        track = row["track_id"]
        audio, fusion = embedder.embed_songs([world.mels[tracks.index(track)]], [f"song {track}"])
        np.testing.assert_allclose(row["embedding"], audio[0], atol=1e-5)
        if fused:
            np.testing.assert_allclose(row["fusion_embedding"], fusion[0], atol=1e-5)
        else:
            assert row["fusion_embedding"] is None
        assert row["text_hash"] == (expected[track]["text_hash"] if fused else None)
        assert row["content_hash"] == expected[track]["content_hash"]


def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(embedder, wanted, world):
    one, many = (stream(embedder, world, wanted, batch_size=size).sort_by("track_id") for size in (1, 64))
    first, second = (np.array(rows["embedding"].to_pylist()) for rows in (one, many))
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_songs_of_several_shards_are_batched_by_length(embedder, wanted, world, monkeypatch):
    assert len(set(wanted["shard"].to_pylist())) > 1
    batches = []
    monkeypatch.setattr(embedder, "embed_songs", lambda mels, _: batches.append(list(map(len, mels))) or _zeros(mels))
    stream(embedder, world, wanted, batch_size=4)
    lengths = [length for batch in batches for length in batch]
    assert list(map(len, batches)) == [4, 4, 4, 1]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("size", [1, 3000])
def test_songs_are_read_in_buffers_of_bounded_size(embedder, wanted, world, monkeypatch, size):
    whole = stream(embedder, world, wanted)
    monkeypatch.setattr("htcl.embeddings.tasks.BUFFER_BYTES", size)
    found = stream(embedder, world, wanted)
    if size == 1:  # sorted by length within a buffer only
        assert found["track_id"].to_pylist() == wanted["track_id"].to_pylist()
    found, whole = (rows.sort_by("track_id") for rows in (found, whole))
    assert found["track_id"] == whole["track_id"]
    np.testing.assert_allclose(found["embedding"].to_pylist(), whole["embedding"].to_pylist(), atol=1e-5)


def _zeros(mels):
    return np.zeros((len(mels), 8), np.float32), None


def test_texts_are_embedded_in_their_order(embedder):
    texts = ["slow harp", "song a", "song b c d e"]
    found = embedder.embed_texts(texts, batch_size=2)
    for text, vector in zip(texts, found, strict=True):
        np.testing.assert_allclose(embedder.embed_texts([text])[0], vector, atol=1e-5)
    expected = embedder.model.get_text_features(**embedder.processor(text=texts))
    np.testing.assert_allclose(found, unit(expected.detach()), atol=1e-5)


def test_a_shard_cut_short_is_an_error(embedder, wanted, shard, world):
    path, rows = shard
    last = max(rows, key=lambda row: row["offset"])
    path.write_bytes(path.read_bytes()[: last["offset"] - 512])
    with pytest.raises(HTCLError, match=f"{path.name}: the bytes of {last['track_id']} are damaged"):
        stream(embedder, world, wanted)


def test_a_lost_shard_is_an_error(embedder, wanted, shard, world):
    shard[0].unlink()
    with pytest.raises(HTCLError, match=f"lacks a shard of its index .*{shard[0].name}"):
        stream(embedder, world, wanted)


def test_a_damaged_song_is_an_error(embedder, wanted, shard, world):
    path, rows = shard
    data = bytearray(path.read_bytes())
    data[rows[-1]["offset"] + rows[-1]["size"] - 1] ^= 4
    path.write_bytes(data)
    with pytest.raises(HTCLError, match=f"the bytes of {rows[-1]['track_id']} are damaged"):
        stream(embedder, world, wanted)


def test_a_model_folder_is_loaded_once(embedder, tmp_path):
    embedder.model.save_pretrained(tmp_path)
    embedder.processor.save_pretrained(tmp_path)
    loaded = SongEmbedder.load(str(tmp_path), "key")
    assert SongEmbedder.load(str(tmp_path), "key") is loaded is not SongEmbedder.load(str(tmp_path), "other")
    assert not loaded.model.training
    np.testing.assert_allclose(loaded.embed_texts(["slow harp"]), embedder.embed_texts(["slow harp"]), atol=1e-6)
