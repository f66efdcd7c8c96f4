import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl import publish
from htcl.artifacts import ArtifactStore, Recipe
from htcl.champion import read_champion
from htcl.config import PipelineConfig
from htcl.evaluation.gate import GUARDS
from htcl.evaluation.results import PER_QUERY_FILE, per_query_table
from htcl.publish import gate_and_publish, read_decision
from htcl.schemas import embeddings_schema
from htcl.tables import GrowingTable

TRACKS = [f"t{n}" for n in range(60)]


@pytest.fixture
def config(tmp_path):
    return PipelineConfig(workspace=str(tmp_path), catalog={"path": "c"}, interactions={"path": "i"})


def candidate(config, model, quality=0.5, collapsed=False):
    """Embeddings and evaluation of a model, as the steps before leave them."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(TRACKS), 8)).astype(np.float32)
    if collapsed:
        vectors[:] = vectors[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = pa.Table.from_pylist(
        [
            {"track_id": t, "model_id": model, "embedding": v.tolist(), "content_hash": "h"}
            for t, v in zip(TRACKS, vectors, strict=True)
        ],
        schema=embeddings_schema(8),
    )
    table = GrowingTable(config.workspace, "embeddings", embeddings_schema(8), partition_by="model_id")
    store = ArtifactStore(config.workspace)
    embeddings, evaluation = (Recipe(kind, 1, {}, {"model": model}) for kind in ("embeddings", "evaluation"))
    with store.create(embeddings) as draft:
        draft.tables = {"embeddings": table.replace_rows(rows, [model])}
    with store.create(evaluation) as draft:
        values = quality + rng.normal(0, 0.01, len(TRACKS))
        tables = [
            per_query_table(system, g.task, g.split, TRACKS, {g.metric: values if system == "stage2" else 0 * values})
            for g in GUARDS
            for system in ("stage1", "stage2")
        ]
        pq.write_table(pa.concat_tables(tables), draft.path / PER_QUERY_FILE)
    return {
        "catalog": "c",
        "shards": "s",
        "stage2": model,
        "embeddings": embeddings.key,
        "index": f"index of {model}",
        "evaluation": evaluation.key,
    }


def test_the_first_sound_model_is_published(config):
    keys = candidate(config, "first")
    assert gate_and_publish(config, keys)
    champion = read_champion(config.workspace)
    assert {name: getattr(champion, name) for name in keys} == keys
    decision = read_decision(config.workspace, "first")
    assert decision["promote"]
    assert decision["champion"] is None


def test_a_first_model_that_collapsed_is_not_published(config):
    assert not gate_and_publish(config, candidate(config, "first", collapsed=True))
    assert read_champion(config.workspace) is None
    assert "collapsed" in read_decision(config.workspace, "first")["reasons"][0]


def test_a_model_that_the_champion_was_tuned_from_does_not_come_back(config):
    store = ArtifactStore(config.workspace)
    recipes = [Recipe("stage2", 1, {}, {})]
    recipes += [Recipe("stage2", 1, {}, {"champion": recipes[0].key})]
    recipes += [Recipe("stage2", 1, {}, {"champion": recipes[1].key})]
    for recipe in recipes:
        with store.create(recipe):
            pass
    first, _, newest = (candidate(config, recipe.key) for recipe in recipes)
    assert gate_and_publish(config, first)
    assert gate_and_publish(config, newest)
    assert not gate_and_publish(config, first)
    assert read_champion(config.workspace).stage2 == recipes[2].key


def test_a_refused_candidate_leaves_the_pointer_as_it_was(config):
    gate_and_publish(config, candidate(config, "first"))
    before = read_champion(config.workspace)
    assert not gate_and_publish(config, candidate(config, "worse", quality=0.4))
    assert read_champion(config.workspace) == before
    decision = read_decision(config.workspace, "worse")
    assert (decision["promote"], decision["champion"]) == (False, "first")
    assert [c["guard"] for c in decision["comparisons"]] == [guard.name for guard in GUARDS]
    assert all(c["high"] < 0 and c["n"] == len(TRACKS) for c in decision["comparisons"])


def test_a_better_candidate_takes_the_place_of_the_champion(config):
    gate_and_publish(config, candidate(config, "first"))
    assert gate_and_publish(config, candidate(config, "better", quality=0.6))
    assert read_champion(config.workspace).stage2 == "better"


def test_a_new_index_of_the_same_model_is_switched_to_without_the_gate(config, monkeypatch):
    keys = candidate(config, "first")
    gate_and_publish(config, keys)
    monkeypatch.setattr(publish, "decide", None)  # asking the gate would fail
    assert gate_and_publish(config, {**keys, "index": "with new songs"})
    assert read_champion(config.workspace).index == "with new songs"


def test_the_published_set_is_not_written_again(config, monkeypatch):
    keys = candidate(config, "first")
    gate_and_publish(config, keys)
    monkeypatch.setattr(publish, "switch_champion", None)
    assert gate_and_publish(config, keys)


def test_the_gate_was_not_asked_about_an_unknown_model(config):
    assert read_decision(config.workspace, "unknown") is None
