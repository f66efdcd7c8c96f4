"""What each option of the training recipe does on a generated world, against the default, as a table.

`make ablation` trains every variant for real; what a variant does not change is not made again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from htcl.artifacts import ArtifactStore
from htcl.config_file import load_config
from htcl.demo.project import prepare_demo
from htcl.evaluation.bootstrap import paired_difference
from htcl.evaluation.results import PER_QUERY_FILE, Split, Task
from htcl.plan import plan
from tests.integration.harness import BIN, ROOT, Floats, pooled_queries


@dataclass(frozen=True)
class Variant:
    """A name and the settings that make it."""

    name: str
    settings: tuple[str, ...]


VARIANTS = (
    Variant("no masks", ("stage1.mask_false_negatives=false", "stage2.mask_false_negatives=false")),
    Variant("popularity correction (logQ)", ("stage2.popularity_correction=true",)),
    Variant("hard negatives, a quarter", ("stage2.hard_negative_share=0.25",)),
    Variant("hard negatives, a half", ("stage2.hard_negative_share=0.5",)),
    Variant("a third of the text left out", ("stage1.text_field_dropout=0.3", "stage2.text_field_dropout=0.3")),
    Variant("time masking 0.2", ("stage1.time_mask_ratio=0.2", "stage2.time_mask_ratio=0.2")),
    Variant("no frequency masking", ("stage2.frequency_mask_ratio=0",)),
    Variant("no crops", ("stage1.crop_seconds=null", "stage2.crop_seconds=null")),
    Variant("a text head that learns in stage 2", ("stage2.text_head_lr=1.0e-3",)),
)
COLUMNS: tuple[tuple[str, Task, Split, str], ...] = (
    ("cold ndcg_at_10", "song_to_song", "cold", "ndcg_at_10"),
    ("text-to-audio recall_at_10", "text_to_audio", "test", "recall_at_10"),
)


def main() -> None:
    """Run the variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=900, help="songs of each world")
    parser.add_argument("--seeds", type=int, nargs="+", default=[12], help="worlds")
    parser.add_argument("--root", type=Path, default=ROOT / "workspace" / "ablation")
    options = parser.parse_args()
    configs = [prepare_demo(options.root / str(seed), options.songs, seed)[0] for seed in options.seeds]
    base = [_evaluated(path, ()) for path in configs]
    print(f"\n| variant | {' | '.join(f'{name}, change' for name, *_ in COLUMNS)} |")
    print(f"|---|{'---|' * len(COLUMNS)}")
    print(f"| default | {' | '.join(_mean(base, *column[1:]) for column in COLUMNS)} |", flush=True)
    for variant in VARIANTS:
        found = [_evaluated(path, variant.settings) for path in configs]
        changes = " | ".join(_change(found, base, *column[1:]) for column in COLUMNS)
        print(f"| {variant.name} | {changes} |", flush=True)


def _evaluated(path: Path, settings: tuple[str, ...]) -> Path:
    """Run the pipeline and find its per-query figures."""
    overrides = [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(
        [str(BIN / "htcl"), "run", str(path), *overrides],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(settings) or 'default'}: {done.stderr[-2000:]}")
    config = load_config(path, list(settings))
    key = plan(config)["evaluation"].key
    return ArtifactStore(config.workspace).fetch("evaluation", key) / PER_QUERY_FILE


def _queries(after: list[Path], before: list[Path], task: Task, split: Split, metric: str) -> tuple[Floats, Floats]:
    """Figures of stage 2 for the same queries in two sets of runs [queries], pooled over the worlds."""
    tables = (
        [pq.read_table(path, filters=pc.field("system") == "stage2") for path in paths] for paths in (after, before)
    )
    return pooled_queries(zip(*tables, strict=True), task, split, metric)


def _mean(runs: list[Path], task: Task, split: Split, metric: str) -> str:
    values, _ = _queries(runs, runs, task, split, metric)
    return f"{values.mean():.3f} (n={len(values)})"


def _change(after: list[Path], before: list[Path], task: Task, split: Split, metric: str) -> str:
    found = paired_difference(*_queries(after, before, task, split, metric))
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


if __name__ == "__main__":
    main()
