"""The card as task and score records in the common shape of MTEB's results, a file for each system and task."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from htcl import __version__
from htcl.evaluation.results import Result

LANGUAGES = ["zxx-Zxxx"]
"""BCP 47 for content without language: music."""
_MAIN = ("ndcg_at_10", "recall_at_10", "accuracy", "weighted_score", "roc_auc", "mean")
"""Which metric of a task is its main score, the first that it has."""


def write_records(results: Sequence[Result], spreads: Mapping[str, float], folder: Path) -> None:
    """Write `FOLDER/SYSTEM/TASK.json`, as MTEB lays out its results.

    Args:
        results: every figure.
        spreads: "system|task|split|metric" -> deviation over runs.
        folder: is made.
    """
    by_task: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_task.setdefault((result.system, result.task), []).append(result)
    for (system, task), found in by_task.items():
        path = folder / _file_name(system) / f"{_file_name(task)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(task_record(task, found, spreads), indent=1) + "\n")


def task_record(task: str, results: Sequence[Result], spreads: Mapping[str, float]) -> dict[str, Any]:
    """One task of one system.

    Args:
        task: its name.
        results: its figures on all splits.
        spreads: see `write_records`.
    """
    splits: dict[str, dict[str, Any]] = {}
    for result in results:
        scores = splits.setdefault(result.split, {"hf_subset": "default", "languages": LANGUAGES})
        scores[result.metric] = result.value
        scores[f"{result.metric}_interval"] = [result.low, result.high]
        scores[f"{result.metric}_n"] = result.n
        spread = spreads.get(f"{result.system}|{result.task}|{result.split}|{result.metric}")
        if spread is not None:
            scores[f"{result.metric}_deviation_over_runs"] = spread
    for scores in splits.values():
        scores["main_score"] = next((scores[metric] for metric in _MAIN if metric in scores), None)
    return {
        "task_name": task,
        "dataset_revision": None,
        "mteb_version": None,
        "htcl_version": __version__,
        "scores": {split: [scores] for split, scores in splits.items()},
        "evaluation_time": None,
        "kg_co2_emissions": None,
    }


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
