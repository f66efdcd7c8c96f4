"""Embeddings by streaming shards: every wanted song, the same as by itself, or an error."""

from pathlib import Path

import numpy as np
import pytest

from htcl.embedding import SongEmbedder, shard_samples, unit
from htcl.errors import HTCLError


@pytest.fixture
def embedder(tiny_model, processor):
    return SongEmbedder(tiny_model(2), processor)


@pytest.fixture
def shard(world):
    """The first shard, and the rows wanted of it: all its songs but one."""
    name = world.index["shard"][0].as_py()
    rows = [row for row in world.index.to_pylist() if row["shard"] == name]
    wanted = {row["track_id"]: row | {"text": f"song {row['track_id']}", "text_hash": "t"} for row in rows[1:]}
    assert len(rows) > 3
    return Path(world.shards) / name, wanted


def stream(embedder, shard, fused=True, batch_size=2):
    path, wanted = shard
    return [row for block in embedder.embed_shard(str(path), wanted, fused, batch_size) for row in block]


@pytest.mark.parametrize("fused", [True, False])
def test_every_wanted_song_is_embedded_as_it_is_alone(embedder, shard, world, fused):
    found = {row["track_id"]: row for row in stream(embedder, shard, fused)}
    assert set(found) == set(shard[1])
    tracks = world.index["track_id"].to_pylist()
    for track, row in found.items():
        audio, fusion = embedder.embed_songs([world.mels[tracks.index(track)]], [f"song {track}"])
        np.testing.assert_allclose(row["embedding"], audio[0], atol=1e-5)
        if fused:
            np.testing.assert_allclose(row["fusion_embedding"], fusion[0], atol=1e-5)
        else:
            assert row["fusion_embedding"] is None
        assert row["text_hash"] == ("t" if fused else None)
        assert row["content_hash"] == shard[1][track]["content_hash"]


def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(embedder, shard):
    one, many = (stream(embedder, shard, batch_size=size) for size in (1, 64))
    first, second = ({row["track_id"]: row["embedding"] for row in rows} for rows in (one, many))
    for track, vector in first.items():
        np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-5)
        np.testing.assert_allclose(vector, second[track], atol=1e-5)


def test_texts_are_embedded_in_their_order(embedder):
    texts = ["slow harp", "song a", "song b c d e"]
    found = embedder.embed_texts(texts, batch_size=2)
    for text, vector in zip(texts, found, strict=True):
        np.testing.assert_allclose(embedder.embed_texts([text])[0], vector, atol=1e-5)
    expected = embedder.model.get_text_features(**embedder.processor(text=texts))
    np.testing.assert_allclose(found, unit(expected.detach()), atol=1e-5)


def test_a_song_that_its_shard_lacks_is_an_error(embedder, shard):
    path, wanted = shard
    some = next(iter(wanted.values()))
    with pytest.raises(HTCLError, match=rf"{path.name} lacks 1 of its songs, such as zz; delete the shard"):
        stream(embedder, (path, wanted | {"zz": some}))


def test_a_shard_cut_between_songs_is_an_error(embedder, shard, world):
    path, wanted = shard
    last = max((row for row in wanted.values()), key=lambda row: row["offset"])
    path.write_bytes(path.read_bytes()[: last["offset"] - 512])
    with pytest.raises(HTCLError, match=f"{path.name} lacks 1 of its songs, such as {last['track_id']}"):
        stream(embedder, shard)


def test_a_shard_cut_within_a_song_is_an_error(embedder, shard):
    path, _ = shard
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(HTCLError, match=f"{path.name} is gone or damaged"):
        list(shard_samples(str(path)))


def test_a_lost_shard_is_an_error(embedder, shard):
    path, _ = shard
    path.unlink()
    with pytest.raises(HTCLError, match=f"{path.name} is gone or damaged"):
        stream(embedder, shard)


def test_a_damaged_song_is_an_error(embedder, shard):
    path, wanted = shard
    row = next(iter(wanted.values()))
    data = bytearray(path.read_bytes())
    data[row["offset"] + row["size"] - 1] ^= 4
    path.write_bytes(data)
    with pytest.raises(HTCLError, match=f"the bytes of {row['track_id']} are damaged"):
        stream(embedder, shard)


def test_a_model_folder_is_loaded_once(embedder, tmp_path):
    embedder.model.save_pretrained(tmp_path)
    embedder.processor.save_pretrained(tmp_path)
    loaded = SongEmbedder.load(str(tmp_path), "key")
    assert SongEmbedder.load(str(tmp_path), "key") is loaded is not SongEmbedder.load(str(tmp_path), "other")
    assert not loaded.model.training
    np.testing.assert_allclose(loaded.embed_texts(["slow harp"]), embedder.embed_texts(["slow harp"]), atol=1e-6)
