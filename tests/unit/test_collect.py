"""Garbage collection on a workspace with real artifacts, tables and shards."""

import os
import time
from itertools import pairwise

import deltalake
import pyarrow as pa
import pytest

from htcl.artifacts import ArtifactStore, Recipe
from htcl.champion import past_champions, read_champion, switch_champion
from htcl.collect import collect
from htcl.embeddings.work import embeddings_table
from htcl.pairs.log_index import FILES, LogFile, save_files
from htcl.pairs.store import pair_table
from htcl.schemas import PAIR_COUNTS, SHARDS, embeddings_schema
from htcl.shards.index import write_index
from htcl.shards.state import index_table
from htcl.tables import GrowingTable

OLD = 100 * 3600


class World:
    """Nightly generations: each has new shards, pairs, a model tuned from the one before, embeddings, an index."""

    def __init__(self, workspace):
        self.workspace, self.store = str(workspace), ArtifactStore(str(workspace))
        self.folder = workspace
        self.stage1 = self.publish("stage1", {})
        self.nights = []

    def publish(self, kind, inputs, fill=lambda _: None, tables=None):
        recipe = Recipe(kind, 1, {}, inputs)
        with self.store.create(recipe) as draft:
            (draft.path / "payload").write_bytes(b"x" * 1000)
            fill(draft.path)
            draft.tables = tables or {}
        return recipe.key

    def night(self, publish=True):
        n = len(self.nights)
        shard = f"htcl-{n}.tar"
        (self.folder / "shards").mkdir(exist_ok=True)
        (self.folder / "shards" / shard).write_bytes(b"tar")
        row = {"track_id": f"t{n}", "shard": shard, "offset": 0, "size": 1, "frames": 9, "content_hash": f"c{n}"}
        row |= {"source_tag": "", "split_group": f"t{n}", "split": "train"}
        rows = pa.Table.from_pylist([row], SHARDS)
        shards_version = index_table(self.workspace).replace_rows(rows)
        keys = {"catalog": self.publish("catalog", {"catalog_input": str(n)})}
        keys["shards"] = self.publish(
            "shards", {"catalog": keys["catalog"]}, lambda f: write_index(rows, f), {"shards": shards_version}
        )
        keys["pairs"] = self.publish("pairs", {"catalog": keys["catalog"]}, tables={"pair_counts": self.count(n)})
        before = self.nights[-1]["stage2"] if self.nights else None
        start = {"champion": before} if before else {"stage1": self.stage1}
        keys["stage2"] = self.publish("stage2", {**start, "pairs": keys["pairs"], "shards": keys["shards"]})
        models = {"stage1": self.stage1, "stage2": keys["stage2"], "shards": keys["shards"]}
        keys["gate_set"] = self.publish("gate_set", models, tables={"embeddings": self.embed(keys["stage2"])})
        keys["evaluation"] = self.publish("evaluation", {"gate_set": keys["gate_set"], "pairs": keys["pairs"]})
        version = embeddings_table(self.workspace).version()
        keys["embeddings"] = self.publish("embeddings", models, tables={"embeddings": version})
        keys["index"] = self.publish("index", {"embeddings": keys["embeddings"]})
        keys["report"] = self.publish("report", {"evaluation": keys["evaluation"]})
        self.nights.append(keys)
        if publish:
            chosen = {k: keys[k] for k in ("catalog", "shards", "stage2", "embeddings", "index", "evaluation")}
            switch_champion(self.workspace, chosen, "", read_champion(self.workspace))
        return keys

    def count(self, n):
        row = {"dt": f"2025-01-{n + 1:02}", "anchor_id": "a", "positive_id": "b", "source": "copreference"}
        row |= {"n_baskets": 1, "weight": 1, "n_negative": 0, "n_impressions": 0, "users": [n]}
        table, rows = pair_table(self.workspace), pa.Table.from_pylist([row], PAIR_COUNTS)
        name = save_files(self.workspace, [LogFile(f"day-{n}", "1 x", frozenset([n]))])
        part = table.write(rows, row["dt"], "b00000of00001")
        return table.commit([part], replace=[row["dt"]], properties={FILES: name})

    def embed(self, model):
        row = {"track_id": "t", "model_id": model, "embedding": [1.0, 0.0], "content_hash": "h"}
        table = GrowingTable(self.workspace, "embeddings", embeddings_schema(2), partition_by="model_id")
        return table.replace_rows(pa.Table.from_pylist([row], embeddings_schema(2)), [model])

    def age(self):
        """Let everything be old."""
        then = time.time() - OLD
        for path in self.folder.rglob("*"):
            os.utime(path, (then, then))

    def collect(self, keep=1, dry_run=False, grace_hours=0):
        return collect(self.workspace, keep, grace_hours, dry_run)

    def there(self, kind):
        return {manifest["key"] for manifest in self.store.manifests(kind)}

    def files(self):
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_what_the_champion_stands_on_stays_and_the_rest_goes(world):
    nights = [world.night() for _ in range(4)]
    world.age()
    world.collect(keep=1)
    for kind in ("catalog", "pairs", "stage2", "gate_set", "evaluation", "embeddings", "index", "report"):
        assert world.there(kind) == {nights[-1][kind]}, kind
    assert world.there("stage1") == {world.stage1}


def test_forefathers_stay_as_lineage_with_the_songs_they_were_trained_on(world):
    nights = [world.night() for _ in range(4)]
    world.age()
    world.collect(keep=1)
    assert world.there("shards") == {night["shards"] for night in nights}
    for older, newer in pairwise(nights):
        assert world.store.lineage("stage2", newer["stage2"])["inputs"]["champion"] == older["stage2"]
    assert not world.store.published("stage2", nights[0]["stage2"])
    assert not (world.folder / "artifacts" / "stage2" / nights[0]["stage2"]).exists()


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_last_sets_stay_whole(world, keep):
    nights = [world.night() for _ in range(4)]
    world.age()
    world.collect(keep)
    assert world.there("stage2") == {night["stage2"] for night in nights[-keep:]}
    assert world.there("index") == {night["index"] for night in nights[-keep:]}
    for champion in past_champions(world.workspace)[:keep]:
        for kind, key in champion.keys.items():
            assert world.store.published(kind, key)


def test_two_sets_of_one_model_count_as_one(world):
    nights = [world.night() for _ in range(2)]
    champion = read_champion(world.workspace)
    more = world.publish("index", {"embeddings": champion.embeddings, "songs": "new"})
    switch_champion(world.workspace, {**champion.keys, "index": more}, "new songs", champion)
    world.age()
    world.collect(keep=2)
    assert world.there("stage2") == {night["stage2"] for night in nights}


def test_a_table_keeps_its_log_and_a_version_that_is_gone_does_no_harm(world):
    for _ in range(3):
        world.night()
    log = world.folder / "tables" / "pair_counts" / "_delta_log"
    assert '"delta.enableExpiredLogCleanup":"false"' in (log / "00000000000000000000.json").read_text()
    deltalake.DeltaTable(log.parent).create_checkpoint()
    (log / "00000000000000000000.json").unlink()
    assert [pair_table(world.workspace).has_version(version) for version in range(4)] == [False, False, True, False]
    world.age()
    for _ in range(2):
        world.collect(keep=3)
    assert len(pair_table(world.workspace).read()) == 3


def test_the_newest_work_stays_though_it_was_not_published(world):
    world.night()
    refused = world.night(publish=False)
    world.age()
    world.collect(keep=1)
    assert world.store.published("stage2", refused["stage2"])


def test_tables_can_be_read_at_the_versions_that_stay_and_lose_the_files_of_others(world):
    for _ in range(4):
        world.night()
    world.age()
    before = len(list((world.folder / "tables").rglob("*.parquet")))
    world.collect(keep=2)
    assert len(list((world.folder / "tables").rglob("*.parquet"))) < before
    for manifest in world.store.manifests("pairs"):
        version = manifest["tables"]["pair_counts"]
        assert len(pair_table(world.workspace).read(version)) == version + 1
    for manifest in world.store.manifests("embeddings"):
        rows = embeddings_table(world.workspace).read(manifest["tables"]["embeddings"])
        assert manifest["inputs"]["stage2"] in rows["model_id"].to_pylist()
    newest = set(embeddings_table(world.workspace).read()["model_id"].to_pylist())
    assert newest == {night["stage2"] for night in world.nights[-2:]}


def test_properties_of_tables_survive(world):
    for _ in range(3):
        world.night()
    world.age()
    before = pair_table(world.workspace).properties()
    world.collect(keep=1)
    assert pair_table(world.workspace).properties() == before
    assert (world.folder / "tables" / "log_files" / f"{before[FILES]}.parquet").exists()


def test_shards_that_no_index_points_to_go(world):
    world.night()
    (world.folder / "shards" / "htcl-lost.tar").write_bytes(b"tar")
    world.age()
    found = world.collect(keep=1)
    assert ("shard", "htcl-lost.tar") in {(item.kind, item.name) for item in found}
    assert [path.name for path in (world.folder / "shards").iterdir()] == ["htcl-0.tar"]


def test_leftovers_of_killed_runs_go_once_they_are_old(world):
    world.night()
    draft = world.folder / "artifacts" / "stage2" / ".0123.abc"
    checkpoint = world.folder / "training" / "stage2-dead" / "checkpoints" / "step-1"
    for folder in (draft, checkpoint):
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(b"x" * 10)
    world.collect(grace_hours=24)
    assert draft.exists() and checkpoint.exists()
    world.age()
    found = world.collect(grace_hours=24)
    assert not draft.exists() and not (world.folder / "training" / "stage2-dead").exists()
    assert {item.kind: item.size for item in found if item.kind in ("draft", "checkpoints")} == {
        "draft": 10,
        "checkpoints": 10,
    }


def test_checkpoints_of_a_run_that_was_given_up_go_once_another_has_trained(world):
    checkpoint = world.folder / "training" / "stage2-cancelled" / "checkpoints" / "step-1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "part").write_bytes(b"x" * 10)
    (world.folder / "training" / "stray").touch()
    world.age()
    world.collect(grace_hours=24)
    assert checkpoint.exists()
    world.night()
    world.collect(grace_hours=24)
    assert not checkpoint.exists()


def test_what_is_young_stays(world):
    for _ in range(3):
        world.night()
    before = world.files()
    assert world.collect(keep=1, grace_hours=24) == []
    assert world.files() >= before


def test_a_dry_run_says_what_goes_and_deletes_nothing(world):
    for _ in range(3):
        world.night()
    world.age()
    before = world.files()
    would = world.collect(keep=1, dry_run=True)
    assert world.files() == before
    did = world.collect(keep=1)
    told = {(item.kind, item.name) for item in would}
    assert told <= {(item.kind, item.name) for item in did}
    assert {item.kind for item in would} >= {"stage2", "pairs", "index"}


def test_a_second_time_finds_nothing(world):
    for _ in range(3):
        world.night()
    world.age()
    world.collect(keep=1)
    world.age()
    assert world.collect(keep=1) == []


def test_an_empty_workspace_is_clean(world, tmp_path_factory):
    assert collect(str(tmp_path_factory.mktemp("empty")), 3, 0) == []


def test_a_collected_artifact_can_be_made_again(world):
    first = world.night()
    world.night()
    world.age()
    world.collect(keep=1)
    assert not world.store.published("pairs", first["pairs"])
    assert world.publish("pairs", {"catalog": first["catalog"]}) == first["pairs"]
    assert world.store.published("pairs", first["pairs"])
