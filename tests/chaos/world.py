"""The world that faults are injected into: a finished run of it, and copies from which steps are missing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from htcl.demo.project import prepare_demo
from tests.chaos.flow import Span, run_undisturbed
from tests.chaos.truth import Truth, read_truth

SONGS = 48
SETTINGS: dict[str, Any] = {
    "spark": {
        "master": "local[1]",
        # For so few rows, planning and compiling a query takes longer than running it.
        "conf": {
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.adaptive.enabled": "false",
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            "spark.ui.enabled": "false",
        },
    },
    "pairs": {"min_users": 2},
    "stage1": {"epochs": 4, "global_batch_size": 8},
    "stage2": {"epochs": 2, "global_batch_size": 32},
    "training": {"processes": 2, "checkpoint_every_steps": 4, "log_every_steps": 1},
    "evaluation": {"bootstrap_samples": 50},
    "gate": {"min_effective_rank": 1.0, "max_mean_cosine": 1.0},  # so little training leaves a narrow space
    "report": {"text_queries": [], "previews": 0},
    "steps": {"retry_seconds": 1},
}
TABLES = {
    "shards": ["shards", "refused_audio"],
    "pairs": ["pair_counts", "log_files", "log_quality"],  # rejects stay: each source replaces its own
    "gate_set": ["embeddings"],
}
"""Tables that a step writes, beside its artifact."""
STEPS = ("catalog", "shards", "pairs", "stage1", "stage2", "gate_set", "evaluation", "embeddings", "index", "report")


@dataclass(frozen=True)
class World:
    """A world whose pipeline has run undisturbed.

    Attributes:
        config: of the finished workspace.
        truth: what it holds.
        seconds: that the run took.
        spans: when processes of each role were there, by step; what is not there is taken to last a second.
        earliest: step before which no fault need be injected, to save time.
    """

    config: Path
    truth: Truth
    seconds: float
    spans: dict[tuple[str, str], Span]
    earliest: str = "catalog"

    def allows(self, step: str) -> bool:
        """Whether a fault may be injected at a step."""
        return STEPS.index(step) >= STEPS.index(self.earliest)

    def has(self, role: str, step: str) -> bool:
        """Whether a step has processes of a role, as far as is known."""
        return not (self.spans and role) or (role, step) in self.spans

    def copy(self, folder: Path, since: str, workspace: str = "workspace") -> Path:
        """The configuration of a copy whose workspace has neither the artifacts of `since` nor those of later steps.

        Args:
            folder: for the copy, which shares the raw inputs.
            since: the first step that is missing.
            workspace: of the copy, relative to its folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        values = yaml.safe_load(self.config.read_text())
        for section in ("catalog", "interactions"):
            values[section]["path"] = str(self.config.parent / values[section]["path"])
        path = folder / self.config.name
        path.write_text(yaml.safe_dump({**values, "workspace": workspace}))
        target = folder / workspace
        others = shutil.ignore_patterns("lease", ".*")  # which runs at work on it may be taking away
        shutil.copytree(self.config.parent / "workspace", target, dirs_exist_ok=True, ignore=others)
        for step in STEPS[STEPS.index(since) :]:
            shutil.rmtree(target / "artifacts" / step, ignore_errors=True)
            for table in TABLES.get(step, []):
                shutil.rmtree(target / "tables" / table, ignore_errors=True)
        for name in ("published", "lease", *(["shards"] if since in ("catalog", "shards") else [])):
            shutil.rmtree(target / name, ignore_errors=True)
        return path


def make_world(folder: Path, environment: dict[str, str]) -> World:
    """Generate the world and run its pipeline once, watched."""
    path, _ = prepare_demo(folder, songs=SONGS, seed=3)
    values = yaml.safe_load(path.read_text())
    merged = {section: {**values.get(section, {}), **settings} for section, settings in SETTINGS.items()}
    path.write_text(yaml.safe_dump({**values, **merged}))
    seconds, spans = run_undisturbed(path, environment)
    return World(path, read_truth(str(folder / "workspace")), seconds, spans)
