"""What a night does where there is nothing new to learn from."""

from types import SimpleNamespace

import pytest

from flows import nightly_finetune as nightly
from htcl.artifacts import ArtifactStore, Recipe
from htcl.config import PipelineConfig


@pytest.fixture
def champion(tmp_path):
    recipe = Recipe("stage2", 1, {}, {"pairs": "pairs-of-yesterday"})
    with ArtifactStore(str(tmp_path)).create(recipe):
        pass
    return recipe.key


@pytest.mark.parametrize("pairs", ["pairs-of-yesterday", "pairs-of-today"])
def test_a_champion_is_tuned_on_new_pairs_only(tmp_path, monkeypatch, champion, pairs):
    made = []

    def make(run, names, champion):
        made.extend(names)
        return {name: pairs if name == "pairs" else f"{name}-key" for name in names}

    monkeypatch.setattr(nightly, "make", make)
    monkeypatch.setattr(nightly, "gate_and_publish", lambda run, keys, champion: f"judged {sorted(keys)}")
    config = PipelineConfig(workspace=str(tmp_path), catalog={"path": "c"}, interactions={"path": "i"})
    outcome = nightly._fine_tune(SimpleNamespace(config=config), {}, champion)
    if pairs == "pairs-of-yesterday":
        assert made == ["pairs"]
        assert outcome == f"nothing new: champion {champion} was trained on the pairs of today"
    else:
        assert made == ["pairs", "stage2", "gate_set", "evaluation"]
        assert outcome.startswith("judged")
