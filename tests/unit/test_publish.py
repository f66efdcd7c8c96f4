import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htcl.artifacts import ArtifactStore, Recipe
from htcl.champion import past_champions, read_champion, rollback_champion, switch_champion
from htcl.config import PipelineConfig
from htcl.errors import HTCLError, OvertakenError
from htcl.evaluation.gate import GUARDS
from htcl.evaluation.gate_set import write_gate_songs
from htcl.evaluation.results import LOST, PER_QUERY_FILE, per_query_table
from htcl.publish import Switch, find_model, judge, judgements, obstacle, publish_set, read_judgement
from htcl.schemas import SHARDS, embeddings_schema
from htcl.search.index import TRACKS_FILE
from htcl.shards.index import write_index
from htcl.tables import GrowingTable

TRACKS = [f"t{n:02}" for n in range(60)]


@pytest.fixture
def config(tmp_path):
    return PipelineConfig(workspace=str(tmp_path), catalog={"path": "c"}, interactions={"path": "i"})


class Candidate:
    """What the steps before leave of a model: embeddings, index and evaluation of the same songs."""

    def __init__(
        self, config, name, quality=0.5, seed=0, collapsed=False, tracks=TRACKS, indexed=TRACKS, parent=None, scale=1.0
    ):
        self.store = ArtifactStore(config.workspace)
        self.rng = np.random.default_rng(seed)
        self.tracks = tracks
        parent = {"champion": parent} if parent else {}
        self.model = self.publish("stage2", {"name": name, **parent})
        self.shards = self.publish("shards", {}, lambda folder: write_index(shard_rows(), folder))
        version = self.embed(config, collapsed, scale)
        origin = {"catalog": self.publish("catalog", {}), "shards": self.shards, "stage2": self.model}
        tables = {"embeddings": version}
        gate_set = self.publish("gate_set", origin, lambda f: write_gate_songs(pa.array(tracks), f), tables)
        embeddings = self.publish("embeddings", origin, tables=tables)
        table = pa.table({"track_id": indexed})
        index = self.publish("index", {"embeddings": embeddings}, lambda f: pq.write_table(table, f / TRACKS_FILE))
        evaluation = self.publish("evaluation", {"gate_set": gate_set}, lambda f: self.answer(f, quality))
        self.keys = {**origin, "gate_set": gate_set, "embeddings": embeddings, "index": index, "evaluation": evaluation}

    def publish(self, kind, inputs, fill=lambda _: None, tables=None, figures=None):
        recipe = Recipe(kind, 1, {}, inputs)
        with self.store.create(recipe) as draft:
            fill(draft.path)
            draft.tables, draft.figures = tables or {}, figures or {}
        return recipe.key

    def embed(self, config, collapsed, scale):
        vectors = self.rng.normal(size=(len(self.tracks), 8)).astype(np.float32)
        if collapsed:
            vectors[:] = vectors[0]
        vectors *= scale / np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = [
            {"track_id": t, "model_id": self.model, "embedding": v.tolist(), "content_hash": "h"}
            for t, v in zip(self.tracks, vectors, strict=True)
        ]
        table = GrowingTable(config.workspace, "embeddings", embeddings_schema(8), partition_by="model_id")
        return table.replace_rows(pa.Table.from_pylist(rows, schema=embeddings_schema(8)), [self.model])

    def answer(self, folder, quality):
        values = quality + self.rng.normal(0, 0.01, len(self.tracks))
        tables = [
            per_query_table(
                system, g.task, g.split, self.tracks, {g.metric: values if system == "stage2" else 0 * values}
            )
            for g in GUARDS
            for system in ("stage1", "stage2")
        ]
        pq.write_table(pa.concat_tables(tables), folder / PER_QUERY_FILE)


def shard_rows():
    row = {"shard": "s", "offset": 0, "size": 0, "frames": 9, "source_tag": "", "split": "train"}
    return pa.Table.from_pylist([{"track_id": t, "content_hash": t, "split_group": t, **row} for t in TRACKS], SHARDS)


def published(config, *names):
    made = []
    for name in names:
        made.append(Candidate(config, name))
        assert publish_set(config, made[-1].keys, read_champion(config.workspace), "a test").switched
    return made


def against(config, candidate, champion=None, run="run"):
    return judge(config, candidate.keys, champion.keys["evaluation"] if champion else None, run)


def test_a_sound_first_model_may_be_published(config):
    first = Candidate(config, "first")
    judgement = against(config, first)
    assert judgement.promote
    assert (judgement.champion, judgement.drift, judgement.comparisons) == (None, None, [])
    assert read_judgement(config.workspace, first.model) == judgement
    assert publish_set(config, first.keys, None, "the first") == Switch(True, [])
    champion = read_champion(config.workspace)
    assert champion.keys.items() <= first.keys.items()
    assert champion.why == "the first"


def test_a_first_model_that_collapsed_may_not_be(config):
    judgement = against(config, Candidate(config, "first", collapsed=True))
    assert not judgement.promote
    assert "collapsed" in judgement.reasons[0]


def test_a_worse_candidate_is_refused_with_its_figures(config):
    (champion,) = published(config, "first")
    judgement = against(config, Candidate(config, "worse", quality=0.4), champion)
    assert (judgement.promote, judgement.champion) == (False, champion.model)
    assert [c["guard"] for c in judgement.comparisons] == [guard.name for guard in GUARDS]
    assert all(c["high"] < 0 and c["n"] == len(TRACKS) for c in judgement.comparisons)


def test_a_candidate_whose_songs_are_nan_is_refused_beside_a_champion(config):
    (champion,) = published(config, "first")
    judgement = against(config, Candidate(config, "lost", quality=0.6, scale=np.nan), champion)
    assert not judgement.promote and judgement.drift is None
    assert "NaN" in judgement.reasons[0]


def test_a_better_candidate_may_take_the_place_of_the_champion(config):
    (champion,) = published(config, "first")
    judgement = against(config, Candidate(config, "better", quality=0.6), champion)
    assert judgement.promote
    assert judgement.drift["songs"] == len(TRACKS)


def test_a_candidate_that_moved_the_songs_too_far_is_refused(config):
    (champion,) = published(config, "first")
    config = config.model_copy(update={"gate": config.gate.model_copy(update={"max_drift": 0.05})})
    judgement = against(config, Candidate(config, "elsewhere", quality=0.6, seed=1), champion)
    assert not judgement.promote
    assert "(gate.max_drift)" in judgement.reasons[0]


def test_drift_is_measured_over_the_songs_that_both_were_judged_on(config):
    (champion,) = published(config, "first")
    candidate = Candidate(config, "second", tracks=TRACKS[10:], indexed=TRACKS[10:])
    assert against(config, candidate, champion).drift["songs"] == len(TRACKS) - 10


def test_an_index_that_lacks_songs_is_not_published(config):
    partial = Candidate(config, "partial", indexed=TRACKS[:-2])
    (reason,) = publish_set(config, partial.keys, None, "").faults
    assert reason == f"The index lacks 2 of 60 songs, such as {TRACKS[-2]}, {TRACKS[-1]}."
    assert read_champion(config.workspace) is None


def test_an_index_with_songs_that_are_gone_is_not_published(config):
    (reason,) = publish_set(config, Candidate(config, "more", indexed=[*TRACKS, "gone"]).keys, None, "").faults
    assert "1 of 60 songs, such as gone" in reason


@pytest.mark.parametrize("kind", ["index", "stage2", "shards", "embeddings"])
def test_parts_of_two_sets_are_not_published_together(config, kind):
    one, other = Candidate(config, "one"), Candidate(config, "two")
    foreign = "elsewhere" if kind == "shards" else other.keys[kind]
    (reason,) = publish_set(config, {**one.keys, kind: foreign}, None, "").faults
    assert "are of another" in reason or "is of other embeddings" in reason


def test_a_model_whose_songs_all_look_alike_is_not_published_even_by_hand(config):
    (reason, *_) = publish_set(config, Candidate(config, "flat", collapsed=True).keys, None, "promoted by hand").faults
    assert "collapsed" in reason


def test_the_published_set_is_not_written_again(config):
    (first,) = published(config, "first")
    assert publish_set(config, first.keys, read_champion(config.workspace), "again") == Switch(False, [])
    assert len(past_champions(config.workspace)) == 1


def test_a_switch_that_was_decided_upon_an_older_champion_fails(config):
    published(config, "first")
    base = read_champion(config.workspace)
    published(config, "second")
    with pytest.raises(OvertakenError):
        publish_set(config, Candidate(config, "third").keys, base, "")


def test_a_model_that_the_champion_was_tuned_from_is_no_candidate(config):
    first = Candidate(config, "first")
    second = Candidate(config, "second", parent=first.model)
    third = Candidate(config, "third", parent=second.model)
    champion = switch_champion(config.workspace, pick(third.keys), "", None)
    for older in (first, second):
        assert obstacle(config.workspace, older.model, champion) == f"it was fine-tuned from {older.model}"
    assert obstacle(config.workspace, "another", champion) is None
    assert obstacle(config.workspace, first.model, None) is None


def pick(keys):
    return {kind: keys[kind] for kind in ("catalog", "shards", "stage2", "embeddings", "index", "evaluation")}


def test_a_model_that_was_rolled_back_from_is_no_candidate_until_it_is_promoted(config):
    _, second = published(config, "first", "second")
    child = Candidate(config, "child", parent=second.model)
    champion = rollback_champion(config.workspace)
    assert f"comes from {second.model}" in obstacle(config.workspace, child.model, champion)
    assert f"htcl promote {second.model}" in obstacle(config.workspace, second.model, champion)
    assert publish_set(config, second.keys, champion, "promoted by hand").switched
    assert obstacle(config.workspace, second.model, read_champion(config.workspace)) is None


def test_what_comes_from_a_model_that_was_promoted_is_a_candidate_whatever_that_came_from(config):
    published(config, "first")
    second = Candidate(config, "second")
    third = Candidate(config, "third", parent=second.model)
    for candidate in (second, third):
        assert publish_set(config, candidate.keys, read_champion(config.workspace), "").switched
    for _ in range(2):
        champion = rollback_champion(config.workspace)
    assert set(champion.withdrawn) == {second.model, third.model}
    assert publish_set(config, third.keys, champion, "promoted by hand").switched
    tonight = Candidate(config, "tonight", parent=third.model)
    assert obstacle(config.workspace, tonight.model, read_champion(config.workspace)) is None


def test_a_model_that_has_lost_texts_is_refused(config):
    lost = Candidate(config, "lost")
    lost.keys["evaluation"] = lost.publish(
        "evaluation",
        {"gate_set": lost.keys["gate_set"], "again": "1"},
        lambda folder: lost.answer(folder, 0.5),
        figures={LOST: 3},
    )
    judgement = against(config, lost)
    assert not judgement.promote
    assert judgement.reasons == ["3 embeddings of the candidate's songs and texts are zero, NaN or infinite."]


def test_the_gate_was_not_asked_about_an_unknown_model(config):
    assert read_judgement(config.workspace, "unknown") is None
    assert judgements(config.workspace) == []


def test_a_model_is_found_by_its_run_and_by_the_beginning_of_its_key(config):
    first, second = Candidate(config, "first"), Candidate(config, "second")
    against(config, first, run="brave-otter")
    assert find_model(config.workspace, "brave-otter") == first.model
    assert find_model(config.workspace, second.model[:8]) == second.model
    with pytest.raises(HTCLError, match="no model and no run is called 'calm-owl'"):
        find_model(config.workspace, "calm-owl")
    with pytest.raises(HTCLError, match="give more letters"):
        find_model(config.workspace, "")
