"""The whole DAG on a small generated world: every box with its real component."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
import webdataset as wds

from htcl.artifacts import MANIFEST, ArtifactStore
from htcl.champion import require_champion
from htcl.embeddings.embedder import SongEmbedder
from htcl.plan import plan
from htcl.report import BRIDGE_FILE, report_path
from htcl.schemas import REJECTS, embeddings_schema
from htcl.shards.index import read_index
from htcl.shards.reader import ShardReader
from htcl.tables import GrowingTable

from .harness import BIN, ROOT, SONGS, Htcl, Run


def test_a_killed_run_leaves_whole_artifacts_and_the_next_goes_on_from_there(demo_run: Run) -> None:
    assert "stage1: runs" in demo_run.killed
    for name in ("catalog", "shards"):
        assert f"{name}: skipped, nothing changed" in demo_run.finished
    for name in ("pairs", "stage1", "stage2", "gate_set", "evaluation", "embeddings", "index", "report"):
        assert f"{name}: runs, because" in demo_run.finished


def test_steps_run_side_by_side_where_neither_reads_the_other(demo_run: Run) -> None:
    for steps in (("pairs", "stage1"), ("embeddings", "report")):
        begun = [demo_run.finished.index(f"{step}: runs") for step in steps]
        ended = [demo_run.finished.index(f"Task run '{step}' - Finished") for step in steps]
        assert max(begun) < min(ended), steps


def test_every_artifact_holds_what_its_manifest_lists(demo_run: Run) -> None:
    folders = list((Path(demo_run.config.workspace) / "artifacts").glob("*/*"))
    assert len([folder for folder in folders if not folder.name.startswith(".")]) == 10
    for folder in folders:
        if folder.name.startswith("."):
            continue  # what a killed run left aside is not visible to readers
        manifest = json.loads((folder / MANIFEST).read_text())
        assert {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} == {*manifest["files"], MANIFEST}


def test_a_second_run_skips_every_step_and_says_so(demo_run: Run, htcl: Htcl) -> None:
    again = htcl("run", demo_run.path)
    assert again.returncode == 0, again.stderr[-2000:] + again.stdout[-3000:]
    assert again.stdout.count("skipped, nothing changed") == 10
    assert ": runs, because" not in again.stdout
    assert f"nothing new: readers see {require_champion(demo_run.config.workspace).stage2}" in again.stdout


def test_a_run_ends_with_the_result_table_and_the_path_of_a_report(demo_run: Run) -> None:
    page = report_path(demo_run.config.workspace, plan(demo_run.config)["report"].key)
    assert demo_run.finished.rstrip().endswith(f"report: {page}")
    for system in ("random", "popularity", "text alone", "stage1", "stage2"):
        assert system in demo_run.finished
    for part in ("events in", "recall@10", "slow sad waltz on a harp", "data:audio/mpeg", "unknown track"):
        assert part in page.read_text()
    assert ">stage2</text>" in page.with_name(BRIDGE_FILE).read_text()


def test_status_names_what_would_run_and_why(demo_run: Run, htcl: Htcl) -> None:
    there = htcl("status", demo_run.path)
    assert there.stdout.count("published") >= 10
    changed = htcl("status", demo_run.path, "--set", "stage2.epochs=7")
    assert "stage2.epochs: 1 -> 7" in changed.stdout
    assert changed.stdout.count("would run") == 6


def test_results_print_every_figure_with_its_interval(demo_run: Run, htcl: Htcl) -> None:
    lines = htcl("results", demo_run.path).stdout.splitlines()
    assert lines[0] == "| task | split | metric | random | popularity | text alone | stage1 | stage2 |"
    figures = {tuple(cell.strip().split(" ")[0] for cell in line.split("|")[1:4]) for line in lines[2:]}
    for k in (1, 5, 10):
        assert {("text_to_audio", "test", f"recall_at_{k}"), ("audio_to_text", "test", f"recall_at_{k}")} <= figures
    for metric in ("recall_at_10", "recall_at_50", "ndcg_at_10", "mrr"):
        assert {("song_to_song", split, metric) for split in ("cold", "warm")} <= figures


def test_search_and_similar_answer_from_the_published_set(demo_run: Run, htcl: Htcl) -> None:
    found = htcl("search", "slow sad waltz on a harp", "--config", demo_run.path, "-k", 5)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("T000") == 5
    near = htcl("similar", "T000003", "--config", demo_run.path, "-k", 5)
    assert "songs like" in near.stdout
    wrong = htcl("similar", "T00000", "--config", demo_run.path)
    assert wrong.returncode == 1
    assert "did you mean" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_no_training_pair_touches_a_held_out_song(demo_run: Run) -> None:
    store, steps = ArtifactStore(demo_run.config.workspace), plan(demo_run.config)
    index = read_index(store.fetch("shards", steps["shards"].key))
    sides = dict(zip(index["track_id"].to_pylist(), index["split"].to_pylist(), strict=True))
    pairs = ds.dataset(store.fetch("pairs", steps["pairs"].key) / "pairs").to_table()
    assert set(pairs["split"].unique().to_pylist()) >= {"train", "test_cold"}
    for row in pairs.select(["anchor_id", "positive_id", "split"]).to_pylist():
        ends = {sides[row["anchor_id"]], sides[row["positive_id"]]}
        assert (ends == {"train"}) == (row["split"] in ("train", "test_warm"))
        assert ("test" in ends) == (row["split"] == "test_cold")
    groups = index.group_by(["split_group", "split"]).aggregate([])
    assert len(groups) == len(pc.unique(index["split_group"]))


def test_shards_are_plain_webdataset_and_the_index_points_into_them(demo_run: Run) -> None:
    config = demo_run.config
    store = ArtifactStore(config.workspace)
    index = read_index(store.fetch("shards", plan(config)["shards"].key))
    assert len(index) == SONGS - 2  # two files are bad on purpose
    folder = f"{config.workspace}/shards"
    urls = sorted(str(path) for path in Path(folder).glob("*.tar"))
    samples = list(wds.WebDataset(urls, shardshuffle=False))
    assert {json.loads(sample["json"])["track_id"] for sample in samples} >= set(index["track_id"].to_pylist())
    mels = ShardReader(folder, index).read(np.arange(len(index)))
    assert [len(mel) for mel in mels] == index["frames"].to_pylist()


def test_embeddings_hold_both_models_and_equal_a_direct_forward(demo_run: Run) -> None:
    config = demo_run.config
    store, steps = ArtifactStore(config.workspace), plan(config)
    table = GrowingTable(config.workspace, "embeddings", embeddings_schema(1), partition_by="model_id").read()
    assert len(table) == 2 * (SONGS - 2)
    key = steps["stage2"].key
    rows = table.filter(pc.field("model_id") == key).sort_by("track_id")
    stored = np.array(rows["embedding"].to_pylist(), np.float32)
    index = read_index(store.fetch("shards", steps["shards"].key))
    mels = ShardReader(f"{config.workspace}/shards", index).read(np.arange(8))
    embedder = SongEmbedder.load(str(store.fetch("stage2", key)), key)
    direct = np.concatenate([embedder.embed_songs([mel])[0] for mel in mels])
    np.testing.assert_allclose(stored[:8], direct, atol=1e-4)
    assert require_champion(config.workspace).stage2 == key


def test_the_snippet_of_the_readme_reads_the_published_embeddings(demo_run: Run) -> None:
    snippet = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(snippet.replace("workspace/demo/workspace", demo_run.config.workspace), names)
    assert list(names["songs"].columns) == ["track_id", "embedding"]
    assert len(names["songs"]) == SONGS - 2


def test_data_quality_is_shown_as_artifacts_of_the_run(demo_run: Run) -> None:
    with sqlite3.connect(f"file:{demo_run.prefect_home}/prefect.db?mode=ro", uri=True) as store:
        shown = dict(store.execute("select key, data from artifact where key is not null order by created").fetchall())
    days = json.loads(json.loads(shown["log-quality"]))
    assert days[0]["day"] == max(day["day"] for day in days)
    assert days[0]["events play"] > 0 and days[0]["funnel baskets"] > 0
    pairs = json.loads(json.loads(shown["pair-quality"]))
    assert {row["measure"] for row in pairs} == {"positives_per_anchor", "gini"}
    assert "log-unusual" in shown


def test_rejects_have_reasons_and_nothing_that_was_written_holds_a_user_id(demo_run: Run) -> None:
    workspace = Path(demo_run.config.workspace)
    rejects = GrowingTable(str(workspace), "rejects", REJECTS, partition_by="source").read()
    reasons = set(zip(rejects["source"].to_pylist(), rejects["reason"].to_pylist(), strict=True))
    assert {("audio", "not_audio"), ("interactions", "duplicate_event"), ("interactions", "bad_ts")} <= reasons
    users = set()
    for log in Path(demo_run.config.interactions.path).rglob("*.jsonl"):
        users |= set(re.findall(r'"user_id": ?"([^"]+)"', log.read_text()))
    assert len(users) > 30
    files = [f for f in workspace.rglob("*") if f.suffix in (".json", ".jsonl", ".yaml", ".html", ".md")]
    texts = [demo_run.killed, demo_run.finished, *(f.read_text() for f in files)]
    texts += [str(ds.dataset(f).to_table().to_pylist()) for f in workspace.rglob("*.parquet")]
    assert len(texts) > 30
    mentioned = set(re.findall(r"\bu\d{5}\b", "\n".join(texts)))
    assert not users & mentioned


@pytest.mark.parametrize("job", ["mine_pairs", "build_shards", "embed_catalog"])
def test_jobs_explain_themselves_under_plain_spark_submit(job: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [str(BIN / "spark-submit"), f"jobs/{job}.py", "--help"],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "--config" in done.stdout
