"""The evaluation of small artifacts: what takes part, what fails it, what is published."""

import json
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl.artifacts import ArtifactStore, Recipe
from htcl.config_file import validate_config
from htcl.embeddings.embedder import SongEmbedder
from htcl.errors import HTCLError
from htcl.evaluation.gate_set import write_gate_songs
from htcl.evaluation.results import LOST, PER_QUERY_FILE, RESULTS_FILE, from_table
from htcl.evaluation.run import COMPARISONS_FILE, evaluate
from htcl.ingest.catalog import CATALOG_FILE, CHECKED_CATALOG
from htcl.plan import Step
from htcl.schemas import SHARDS, embeddings_schema
from htcl.shards.index import write_index
from htcl.tables import GrowingTable

SIZE = 6
TRACKS = [f"song {number:02d}" for number in range(20)]
SIDES = ["train"] * 10 + ["test"] * 10


def unit_vectors(seed):
    vectors = np.random.default_rng(seed).normal(size=(len(TRACKS), SIZE)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


TEXTS = unit_vectors(0)


class World:
    """A workspace with everything that the evaluation reads."""

    def __init__(self, folder):
        self.workspace = str(folder)
        self.store = ArtifactStore(self.workspace)
        self.config = validate_config(
            {
                "workspace": self.workspace,
                "catalog": {"path": "c"},
                "interactions": {"path": "l"},
                "evaluation": {"bootstrap_samples": 50},
            },
            "test",
        )

    def publish(self, kind, fill, inputs=(), tables=()):
        recipe = Recipe(kind, 1, {}, dict(inputs))
        with self.store.create(recipe) as draft:
            fill(draft.path)
            draft.tables = dict(tables)
        return recipe.key

    def evaluate(self, index=(), pairs=(), sides=SIDES, trained_sides=None, trained_names=(), stage2=TEXTS):
        """Evaluate; `index` replaces values of some tracks' rows in the shard index, `trained_sides` is the split
        that the model was trained with, `trained_names` are the ids that some tracks had then."""
        rows = [
            {"track_id": t, "shard": "s", "offset": 0, "size": 0, "frames": 9, "content_hash": t, "source_tag": ""}
            | {"split_group": t, "split": side}
            | dict(index).get(t, {})
            for t, side in zip(TRACKS, sides, strict=True)
        ]
        catalog = [{"track_id": t, "title": t, "audio_path": t, "split": "train"} for t in TRACKS]
        inputs = {
            "shards": self.publish("shards", lambda f: write_index(pa.Table.from_pylist(rows, SHARDS), f)),
            "catalog": self.publish(
                "catalog",
                lambda f: pq.write_table(pa.Table.from_pylist(catalog, CHECKED_CATALOG), f / CATALOG_FILE),
            ),
            "stage1": self.publish("stage1", lambda _: None),
        }
        trained = {"shards": inputs["shards"]}
        if trained_sides is not None:
            names = dict(trained_names)
            older = [
                {**row, "split": side, "track_id": names.get(row["track_id"], row["track_id"])}
                for row, side in zip(rows, trained_sides, strict=True)
            ]
            trained = {
                "shards": self.publish(
                    "shards", lambda f: write_index(pa.Table.from_pylist(older, SHARDS), f), {"was": "older"}
                )
            }
        inputs["stage2"] = self.publish("stage2", lambda _: None, trained)
        # Stage 1 knows nothing; stage 2 puts a song where its text is. One song is not in the gate set.
        self.embed(inputs["stage1"], unit_vectors(7))
        version = self.embed(inputs["stage2"], stage2)
        judged = pa.array(sorted(set(TRACKS) - {TRACKS[3]}))
        gate_set = self.publish(
            "gate_set", lambda folder: write_gate_songs(judged, folder), inputs, {"embeddings": version}
        )
        made = self.publish("pairs", lambda folder: write_pairs(folder, pairs))
        step = Step("evaluation", Recipe("evaluation", 1, {}, {"gate_set": gate_set, "pairs": made}), False, "")
        evaluate(self.config, step)
        return self.store.fetch("evaluation", step.key)

    def embed(self, model_id, vectors):
        rows = [
            {"track_id": t, "model_id": model_id, "embedding": v.tolist(), "content_hash": t}
            for t, v in zip(TRACKS, vectors, strict=True)
        ]
        table = GrowingTable(self.workspace, "embeddings", embeddings_schema(SIZE), partition_by="model_id")
        return table.replace_rows(pa.Table.from_pylist(rows, embeddings_schema(SIZE)), replace=[model_id])


def write_pairs(folder, pairs):
    for name in ("pairs", "known", "popularity"):
        (folder / name).mkdir()
    names = ("anchor_id", "positive_id", "split")
    rows = [dict(zip(names, pair, strict=True)) for pair in pairs]
    schema = pa.schema([(name, pa.string()) for name in names])
    known = pa.Table.from_pylist([row for row in rows if row["split"] == "train"], schema)
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "pairs" / "part-0.parquet")
    pq.write_table(known, folder / "known" / "part-0.parquet")
    counts = pa.table({"track_id": TRACKS[:5], "n_baskets": [9, 1, 2, 3, 4]})
    pq.write_table(counts, folder / "popularity" / "part-0.parquet")


@pytest.fixture
def world(tmp_path, monkeypatch):
    def embed_texts(texts):
        return TEXTS[[TRACKS.index(text) for text in texts]]

    embedder = types.SimpleNamespace(embed_texts=embed_texts, processor=types.SimpleNamespace(text_fields=["title"]))
    monkeypatch.setattr(SongEmbedder, "load", lambda *_: embedder)
    monkeypatch.setattr("htcl.evaluation.run.text_alone", lambda _, texts: embed_texts(texts))
    return World(tmp_path)


PAIRS = [
    (TRACKS[12], TRACKS[0], "test_cold"),
    (TRACKS[0], TRACKS[1], "test_warm"),
    (TRACKS[0], TRACKS[2], "train"),
]


@pytest.mark.parametrize("lost", ["songs", "texts"])
def test_embeddings_without_a_direction_rank_by_chance_and_are_counted(world, monkeypatch, lost):
    """The gate refuses such a model: the evaluation has to come that far."""
    broken = TEXTS.copy()
    broken[[12, 15]] = np.nan
    if lost == "texts":
        embedder = types.SimpleNamespace(
            embed_texts=lambda texts: broken[[TRACKS.index(text) for text in texts]],
            processor=types.SimpleNamespace(text_fields=["title"]),
        )
        monkeypatch.setattr(SongEmbedder, "load", lambda *_: embedder)
    folder = world.evaluate(pairs=PAIRS, stage2=broken if lost == "songs" else TEXTS)
    (manifest,) = world.store.manifests("evaluation")
    assert manifest["figures"][LOST] == 2
    assert np.isfinite(pq.read_table(folder / PER_QUERY_FILE)["value"]).all()


def test_every_system_answers_the_same_queries(world):
    folder = world.evaluate(pairs=PAIRS)
    results = {(r.system, r.task, r.split, r.metric): r for r in from_table(pq.read_table(folder / RESULTS_FILE))}
    systems = {"random", "popularity", "text alone", "stage1", "stage2"}
    for split in ("cold", "warm"):
        assert {s for s, t, sp, _ in results if (t, sp) == ("song_to_song", split)} == systems
    assert {s for s, task, *_ in results if task == "text_to_audio"} == {"random", "stage1", "stage2"}
    assert results["stage2", "text_to_audio", "test", "recall_at_1"].value == 1
    assert results["stage2", "audio_to_text", "test", "median_rank"].value == 1
    assert results["stage1", "text_to_audio", "test", "recall_at_1"].value < 1
    # Song 0 is the most popular of all; for the warm query, song 4, then song 1's rank without songs 2 and 3.
    assert results["popularity", "song_to_song", "cold", "mrr"].value == 1
    assert results["popularity", "song_to_song", "warm", "mrr"].value == 1 / 2
    assert {r.n for key, r in results.items() if key[2] == "test"} == {10}


def test_stages_are_compared_on_paired_queries(world):
    folder = world.evaluate(pairs=PAIRS)
    comparisons = json.loads((folder / COMPARISONS_FILE).read_text())
    found = {(row["task"], row["split"], row["metric"]): row for row in comparisons}
    assert not any(metric == "median_rank" for *_, metric in found)
    row = found["text_to_audio", "test", "recall_at_1"]
    assert row["stage2"] == 1 and row["difference"]["value"] == pytest.approx(row["stage2"] - row["stage1"])


def test_songs_beside_the_gate_set_are_no_candidates(world):
    folder = world.evaluate(pairs=[*PAIRS, (TRACKS[13], TRACKS[3], "test_cold")])
    queries = pq.read_table(folder / PER_QUERY_FILE)["query"].to_pylist()
    assert TRACKS[12] in queries and TRACKS[3] not in queries
    manifest = world.store.manifests("evaluation")[0]
    assert manifest["figures"] == {"songs": 19, "test_songs": 10, LOST: 0}


def test_a_group_on_two_sides_is_an_error(world):
    shared = {TRACKS[0]: {"split_group": "work"}, TRACKS[15]: {"split_group": "work"}}
    with pytest.raises(HTCLError, match="split: the group 'work' stands on two sides"):
        world.evaluate(index=shared, pairs=PAIRS)
    assert world.store.manifests("evaluation") == []


def test_a_group_on_one_side_is_none(world):
    shared = {TRACKS[0]: {"split_group": "work"}, TRACKS[5]: {"split_group": "work"}}
    world.evaluate(index=shared, pairs=PAIRS)
    assert world.store.manifests("evaluation")[0]["figures"] == {"songs": 19, "test_songs": 10, LOST: 0}


def test_test_songs_whose_audio_was_trained_on_leave_the_evaluation(world):
    twins = {TRACKS[0]: {"content_hash": "same"}, TRACKS[15]: {"content_hash": "same"}}
    folder = world.evaluate(index=twins, pairs=[*PAIRS, (TRACKS[15], TRACKS[1], "test_cold")])
    queries = set(pq.read_table(folder / PER_QUERY_FILE)["query"].to_pylist())
    assert TRACKS[15] not in queries and {TRACKS[0], TRACKS[14], TRACKS[16]} <= queries


def test_songs_that_the_model_was_trained_on_are_not_held_out(world):
    before = ["test"] * 10 + ["train"] * 2 + ["test"] * 8
    folder = world.evaluate(pairs=[*PAIRS, (TRACKS[10], TRACKS[1], "test_cold")], trained_sides=before)
    queries = set(pq.read_table(folder / PER_QUERY_FILE)["query"].to_pylist())
    assert not queries & {TRACKS[10], TRACKS[11]} and {TRACKS[12], TRACKS[19]} <= queries
    assert world.store.manifests("evaluation")[0]["figures"]["test_songs"] == 8


def test_songs_that_came_back_under_another_id_are_not_held_out_nor_are_their_versions(world):
    before, names = ["test"] * 10 + ["train"] * 2 + ["test"] * 8, {TRACKS[10]: "delisted", TRACKS[12]: "renamed"}
    cover = {TRACKS[10]: {"split_group": "work"}, TRACKS[13]: {"split_group": "work"}}
    folder = world.evaluate(index=cover, pairs=PAIRS, trained_sides=before, trained_names=names)
    queries = set(pq.read_table(folder / PER_QUERY_FILE)["query"].to_pylist())
    assert not queries & set(TRACKS[10:12]) and TRACKS[13] not in queries and {TRACKS[12], TRACKS[19]} <= queries
    assert world.store.manifests("evaluation")[0]["figures"]["test_songs"] == 7


def test_nothing_held_out_is_an_error(world):
    with pytest.raises(HTCLError, match=r"no song is held out; raise split\.test_share"):
        world.evaluate(sides=["train"] * len(TRACKS))


def test_pairs_alone_are_evaluated_when_no_song_is_held_out(world):
    folder = world.evaluate(sides=["train"] * len(TRACKS), pairs=PAIRS[1:])
    assert set(pq.read_table(folder / PER_QUERY_FILE)["split"].to_pylist()) == {"warm"}
