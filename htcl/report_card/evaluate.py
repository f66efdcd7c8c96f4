"""`htcl evaluate`: trains what is missing, asks every system, and puts the runs together."""

from __future__ import annotations

import time
from collections.abc import Sequence

from htcl.artifacts import ArtifactStore, Recipe
from htcl.config import PipelineConfig
from htcl.config_file import validate_config
from htcl.lease import workspace_lease
from htcl.logs import get_logger, log
from htcl.plan import plan, raw_inputs
from htcl.processes import end_live_sessions
from htcl.report_card.answers import make_answers, read_answers, recipe_of
from htcl.report_card.card import KIND, STEP_VERSION, Card, make_card, read_card, write_card
from htcl.report_card.models import model_key, train_variant, training_steps
from htcl.report_card.variants import STAGE1, STAGE2, VARIANTS, Variant

LOGGER = get_logger("report_card")


def evaluate(configs: Sequence[PipelineConfig], seeds: int, all_variants: bool) -> tuple[Card, str]:
    """Make the report card of one or more configurations; what is published already is not made again.

    Args:
        configs: whose catalog, shards and pairs are published (`htcl run`); they are pooled. The first one's workspace
            gets the card.
        seeds: trainings of each, from `training.seed` on.
        all_variants: train every variant (`htcl.report_card.variants`), else stage 1 and stage 2 only.

    Returns:
        The card and its key.

    Raises:
        HTCLError: when a configuration was not run yet, or training fails.
    """
    variants = [each for each in VARIANTS if all_variants or each.name in (STAGE1, STAGE2)]
    runs = [
        (config, _answers_key(_seeded(config, seed), variants, f"run {number + 1} of {len(configs) * seeds}"))
        for number, (config, seed) in enumerate((config, seed) for config in configs for seed in range(seeds))
    ]
    first = configs[0]
    store = ArtifactStore(first.workspace)
    names = {f"run {number}": key for number, (_, key) in enumerate(runs, start=1)}
    recipe = Recipe(KIND, STEP_VERSION, {"name": first.name, "evaluation": first.evaluation.model_dump()}, names)
    if not store.published(KIND, recipe.key):
        answers = [read_answers(ArtifactStore(config.workspace).fetch("answers", key)) for config, key in runs]
        card, pooled = make_card(first.name, answers, first.evaluation)
        with store.create(recipe) as draft:
            write_card(card, pooled, draft.path)
            draft.figures = {"runs": len(runs), "systems": len(card.systems)}
    return read_card(store.fetch(KIND, recipe.key)), recipe.key


def _seeded(config: PipelineConfig, number: int) -> PipelineConfig:
    values = config.model_dump(mode="json")
    values["training"]["seed"] += number
    return validate_config(values, "report card")


def _answers_key(config: PipelineConfig, variants: Sequence[Variant], what: str) -> str:
    """Train and ask, and say under which key the answers are published."""
    here = not config.training.hostfile
    started = time.monotonic()
    with workspace_lease(config.workspace, "evaluate", here, end_live_sessions):
        inputs = raw_inputs(config)
        steps = training_steps(config, inputs)
        models: dict[str, tuple[str, str]] = {
            each.name: (each.stage, model_key(config, each, steps, inputs)) for each in variants
        }
        planned = plan(config, inputs=inputs)
        data = {name: planned[name].key for name in ("catalog", "shards", "pairs")}
        recipe = recipe_of(config, inputs, data, {name: key for name, (_, key) in models.items()})
        if not ArtifactStore(config.workspace).published(recipe.kind, recipe.key):
            for variant in variants:
                train_variant(config, variant, steps, inputs)
            make_answers(config, inputs, recipe, models)
    log(LOGGER, "answers are there", run=what, key=recipe.key, seconds=round(time.monotonic() - started))
    return recipe.key
