"""What each variant changes."""

import pytest

from htcl.config_file import validate_config
from htcl.report_card.variants import VARIANTS, Steps

STEPS = Steps(stage1=90, stage2=200, stage1_epoch=9)


@pytest.fixture
def config():
    return validate_config(
        {
            "workspace": "w",
            "catalog": {"path": "c"},
            "interactions": {"path": "l"},
            "stage1": {"text_head_lr": 2e-3, "crop_seconds": 5},
            "stage2": {"text_head_lr": 0, "head_lr": 3e-3, "crop_seconds": 5, "frequency_mask_ratio": 0.3},
        },
        "test",
    )


@pytest.fixture
def made(config):
    return {variant.name: variant.config(config, STEPS) for variant in VARIANTS}


def test_every_variant_is_a_valid_configuration_and_only_the_stages_change_nothing(config, made):
    assert [name for name, found in made.items() if found == config] == ["stage1", "stage2"]


def test_the_longer_stage_1_takes_at_least_the_steps_of_both(made):
    assert made["stage1 longer"].stage1.epochs == 33  # of 9 steps each: 297 of 290


def test_each_term_is_left_out_alone(made):
    for term in ("audio_text", "audio_audio", "audio_fusion"):
        weights = made[f"stage2 without {term}"].stage2.loss_weights.model_dump()
        assert {name for name, weight in weights.items() if weight == 0} == {term}
        assert made[f"stage2 without {term}"].stage1.epochs > 0


def test_without_stage_1_or_text_stage_2_begins_untrained_and_its_text_head_learns(made):
    for name in ("stage2 without stage1", "stage2 without text"):
        assert made[name].stage1.epochs == 0 and made[name].stage2.text_head_lr == 2e-3
    assert made["stage2 without text"].stage2.loss_weights.model_dump() == {
        "audio_text": 0,
        "audio_audio": 1,
        "audio_fusion": 0,
    }


def test_parity_knows_nothing_that_the_authors_do_not(made):
    parity = made["reference_parity"]
    assert parity.model.reference_parity and parity.stage2.text_head_lr == 3e-3
    assert not parity.stage1.augments and not parity.stage2.augments
