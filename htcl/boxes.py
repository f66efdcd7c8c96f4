"""Steps that need neither Spark nor DeepSpeed, each run in a process of its own: it can be ended whatever it does.

python -m htcl.boxes < JSON
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from htcl.artifacts import ArtifactStore, Recipe
from htcl.config import PipelineConfig
from htcl.config_file import validate_config
from htcl.errors import sentence_of
from htcl.logs import get_logger, log_sentence, quiet_libraries, setup_logging
from htcl.plan import Step

BOXES = ("catalog", "index", "evaluation", "report")
COMMAND = [sys.executable, "-u", "-m", "htcl.boxes"]


def describe(config: PipelineConfig, recipe: Recipe) -> dict[str, Any]:
    """What the process reads from standard input, as JSON values."""
    return {"config": config.model_dump(mode="json"), "recipe": asdict(recipe)}


def main() -> None:
    """Make one artifact; what a person can mend ends in one sentence and exit code 1."""
    setup_logging()
    work = json.loads(sys.stdin.readline())
    recipe = Recipe(**work["recipe"])
    try:
        _make(validate_config(work["config"], "the flow's configuration"), Step(recipe.kind, recipe, False, ""))
    except Exception as error:
        told = sentence_of(error)
        if told is None:
            raise
        log_sentence(get_logger(recipe.kind), told)
        sys.exit(1)


def _make(config: PipelineConfig, step: Step) -> None:
    """Imported late: most bring torch."""
    if step.name == "catalog":
        from htcl.ingest.catalog import build_catalog

        with ArtifactStore(config.workspace).create(step.recipe) as draft:
            draft.figures = build_catalog(config, draft.path)
        return
    quiet_libraries()
    if step.name == "index":
        from htcl.search.index import build_index

        build_index(config, step)
    elif step.name == "evaluation":
        from htcl.evaluation.run import evaluate

        evaluate(config, step)
    else:
        from htcl.report.build import build_report

        build_report(config, step)


if __name__ == "__main__":
    main()
