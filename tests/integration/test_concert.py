"""A slice of real works and a real log, by the same flow; needs the concert data beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from htcl.artifacts import ArtifactStore
from htcl.config_file import load_config
from htcl.plan import plan
from htcl.schemas import REJECTS
from htcl.tables import GrowingTable

from .harness import CONCERT, ONE_RANK, ROOT, TINY, Htcl

FIRST_YEAR, TRACKS = 1980, 120

pytestmark = pytest.mark.skipif(not CONCERT.exists(), reason=f"no concert data in {CONCERT}")


@pytest.fixture(scope="module")
def slice_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest years of the log, the tracks that occur in them and some that do not."""
    root = tmp_path_factory.mktemp("concert")
    years = [p for p in (CONCERT / "interactions").glob("dt=*") if int(p.name[3:7]) >= FIRST_YEAR]
    played = set()
    for year in years:
        (root / "log" / year.name).mkdir(parents=True)
        text = (year / "part-0.jsonl").read_text()
        (root / "log" / year.name / "part-0.jsonl").write_text(text)
        played |= {json.loads(line)["track_id"] for line in text.splitlines()}
    rows = [json.loads(line) for line in (CONCERT / "catalog.jsonl").read_text().splitlines()]
    chosen = sorted(rows, key=lambda row: row["track_id"] not in played)[:TRACKS]
    broken = [json.loads(line) for line in (CONCERT / "broken" / "broken_catalog.jsonl").read_text().splitlines()]
    (root / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen + broken))
    values = yaml.safe_load((ROOT / "tests" / "integration" / "concert.yaml").read_text())
    values["workspace"] = "workspace"
    values["catalog"] = {"path": "catalog.jsonl", "audio_root": str(CONCERT)}
    values["interactions"]["path"] = "log"
    values["audio"] = {"max_reject_share": 0.2}
    values |= TINY | ONE_RANK | {"stage2": {"epochs": 1, "global_batch_size": 4}}
    path = root / "concert.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_flow_runs_on_real_works_and_refuses_the_bad_files_by_their_reason(slice_config: Path, htcl: Htcl) -> None:
    done = htcl("run", slice_config)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    config = load_config(slice_config)
    rejects = GrowingTable(config.workspace, "rejects", REJECTS, partition_by="source").read().to_pylist()
    found = {row["key"]: row["reason"] for row in rejects if row["source"] == "audio"}
    broken = [json.loads(line) for line in (CONCERT / "broken" / "broken_catalog.jsonl").read_text().splitlines()]
    assert found == {row["track_id"]: row["expected"] for row in broken if row["expected"] != "clipped"}
    reasons = {(row["source"], row["reason"]) for row in rejects if row["source"] != "audio"}
    assert {("pairs", "unknown_track"), ("interactions", "missing_user_id")} <= reasons
    figures = ArtifactStore(config.workspace).manifest("shards", plan(config)["shards"].key)["figures"]
    assert figures["tracks"] == TRACKS + 1  # clipping is a warning
