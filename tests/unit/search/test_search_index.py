"""The index answers with the nearest songs, whatever FAISS builds it from."""

import types

import numpy as np
import pyarrow as pa
import pytest

from htcl.artifacts import ArtifactStore, Recipe
from htcl.champion import switch_champion
from htcl.config_file import validate_config
from htcl.embeddings.embedder import SongEmbedder
from htcl.errors import HTCLError
from htcl.ingest.catalog import CATALOG_FILE, CHECKED_CATALOG
from htcl.plan import Step
from htcl.schemas import embeddings_schema
from htcl.search.index import SongIndex, build_index, read_embeddings
from htcl.search.query import PublishedSongs
from htcl.tables import GrowingTable

SIZE, SONGS = 8, 60
TRACKS = [f"song-{number:02d}" for number in range(SONGS)]


def unit_vectors(seed=0):
    vectors = np.random.default_rng(seed).normal(size=(SONGS, SIZE)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = unit_vectors()


def embed(workspace, model_id, vectors=VECTORS):
    """Commit one model's embeddings, in another order than the index will have."""
    rows = [
        {
            "track_id": TRACKS[row],
            "model_id": model_id,
            "embedding": vectors[row].tolist(),
            "fusion_embedding": None,
            "content_hash": "hash",
            "text_hash": None,
        }
        for row in np.random.default_rng(1).permutation(SONGS)
    ]
    table = GrowingTable(workspace, "embeddings", embeddings_schema(SIZE), partition_by="model_id")
    return table.replace_rows(pa.Table.from_pylist(rows, embeddings_schema(SIZE)), replace=[model_id])


@pytest.fixture
def build(tmp_path):
    """Build an index by a factory string; returns the workspace and the artifact's key."""
    workspace = str(tmp_path)

    def built(factory="Flat"):
        store = ArtifactStore(workspace)
        embed(workspace, "other", unit_vectors(seed=9))
        version = embed(workspace, "model")
        made = Recipe("embeddings", 1, {}, {"stage2": "model"})
        with store.create(made) as draft:
            draft.tables = {"embeddings": version}
        config = validate_config(
            {
                "workspace": workspace,
                "catalog": {"path": "c"},
                "interactions": {"path": "l"},
                "search": {"index_factory": factory},
            },
            "test",
        )
        step = Step("index", Recipe("index", 1, {"search": factory}, {"embeddings": made.key}), False, "")
        build_index(config, step)
        return workspace, step.key

    return built


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF4,Flat", "RR8,IVF4,Flat"])
def test_a_song_is_nearest_to_itself(build, factory):
    workspace, key = build(factory)
    index = SongIndex(ArtifactStore(workspace).fetch("index", key))
    assert index.tracks == TRACKS
    for row in (0, 17, 59):
        vector = index.vector(TRACKS[row])
        np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-5)
        (track, score), *_ = index.nearest(vector, 3)[0]
        assert track == TRACKS[row] and score == pytest.approx(1, abs=1e-5)
    assert index.vector("nothing") is None


@pytest.mark.parametrize("factory", ["Flat", "HNSW8"])
def test_nearest_songs_come_in_the_order_of_their_cosine(build, factory):
    workspace, key = build(factory)
    index = SongIndex(ArtifactStore(workspace).fetch("index", key))
    queries = unit_vectors(seed=5)[:4]
    cosines = queries @ VECTORS.T
    for found, cosine in zip(index.nearest(queries, 5), cosines, strict=True):
        best = np.argsort(-cosine)[:5]
        assert [track for track, _ in found] == [TRACKS[row] for row in best]
        np.testing.assert_allclose([score for _, score in found], cosine[best], atol=1e-5)


def test_asking_for_more_songs_than_there_are_gives_all(build):
    workspace, key = build()
    found = SongIndex(ArtifactStore(workspace).fetch("index", key)).nearest(VECTORS[0], 1000)[0]
    assert sorted(track for track, _ in found) == TRACKS


@pytest.mark.parametrize("factory", ["Flatt", "IVF4000,Flat"])
def test_a_factory_that_faiss_refuses_names_the_setting(build, factory, tmp_path):
    with pytest.raises(HTCLError, match=rf"search.index_factory: FAISS refuses '{factory}' for 60 songs: ."):
        build(factory)
    assert ArtifactStore(str(tmp_path)).manifests("index") == []


def test_a_model_without_embeddings_is_an_error(build, tmp_path):
    with pytest.raises(HTCLError, match="no song of model missing; run the pipeline"):
        read_embeddings(str(tmp_path), "missing", version=None)
    build()
    with pytest.raises(HTCLError, match="no song of model missing"):
        read_embeddings(str(tmp_path), "missing", version=1)


def test_embeddings_of_a_version_do_not_change(build, tmp_path):
    build()
    embed(str(tmp_path), "model", unit_vectors(seed=3))
    tracks, vectors, rows = read_embeddings(str(tmp_path), "model", version=1)
    assert tracks == TRACKS and rows["model_id"].unique().to_pylist() == ["model"]
    np.testing.assert_array_equal(vectors, VECTORS)


@pytest.fixture
def published(build):
    """The published set over a catalog in which only the first song has an artist."""
    import pyarrow.parquet as pq

    workspace, key = build()
    store = ArtifactStore(workspace)
    recipes = {kind: Recipe(kind, 1, {}, {}) for kind in ("catalog", "stage2")}
    with store.create(recipes["catalog"]) as draft:
        rows = [
            {"track_id": track, "title": track.title(), "audio_path": "", "tags": ["calm"], "split": "test"}
            | ({"artist": "Ana"} if track == TRACKS[0] else {})
            for track in reversed(TRACKS)
        ]
        pq.write_table(pa.Table.from_pylist(rows, CHECKED_CATALOG), draft.path / CATALOG_FILE)
    with store.create(recipes["stage2"]):
        pass
    keys = {kind: recipe.key for kind, recipe in recipes.items()}
    switch_champion(workspace, {**keys, "index": key, "shards": "", "embeddings": "", "evaluation": ""}, "", None)
    return PublishedSongs(workspace)


def test_similar_songs_leave_the_song_itself_out(published):
    found = published.similar(TRACKS[5], k=4)
    cosine = VECTORS @ VECTORS[5]
    assert [song.track_id for song in found] == [TRACKS[row] for row in np.argsort(-cosine)[1:5]]
    assert found[0].title == found[0].track_id.title() and found[0].tags == ("calm",)


def test_what_the_catalog_does_not_know_is_empty(published):
    assert (published.describe(TRACKS[0]).artist, published.describe(TRACKS[1]).artist) == ("Ana", "")
    assert published.describe(TRACKS[1]).genre == ""


def test_an_unknown_song_names_the_nearest_id(published):
    with pytest.raises(HTCLError, match=r"no song 'song_17'; did you mean 'song-17'\?"):
        published.similar("song_17")
    with pytest.raises(HTCLError, match=r"no song 'completely else'$"):
        published.similar("completely else")


def test_search_embeds_the_words_with_the_published_model(published, monkeypatch):
    def load(folder, model_id):
        assert folder.endswith(model_id)
        return types.SimpleNamespace(embed_texts=lambda texts: VECTORS[[len(texts[0])]])

    monkeypatch.setattr(SongEmbedder, "load", load)
    found = published.search("a sad harp", k=2)
    assert found[0].track_id == TRACKS[len("a sad harp")] and len(found) == 2
    with pytest.raises(HTCLError, match="the query is empty"):
        published.search("  ")


def test_all_songs_come_with_their_embeddings(published):
    songs, vectors = published.embeddings()
    assert [song.track_id for song in songs] == TRACKS
    np.testing.assert_allclose(vectors, VECTORS, atol=1e-6)
    (found,) = published.nearest(vectors[[3]], k=1)
    assert found[0].track_id == TRACKS[3]


def test_nothing_published_yet_is_an_error(tmp_path):
    with pytest.raises(HTCLError, match="nothing is published"):
        PublishedSongs(str(tmp_path / "empty"))
