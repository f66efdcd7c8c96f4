"""The alias of a real MLflow registry, on files."""

import pytest

from htcl.artifacts import ArtifactStore, Recipe
from htcl.champion import SET, read_champion, switch_champion
from htcl.config import PipelineConfig
from htcl.mlflow_client import SERVER_VARIABLE, open_client
from htcl.registry import ALIAS, follow_champion


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv(SERVER_VARIABLE, f"file:{tmp_path / 'mlflow'}")
    workspace = str(tmp_path / "workspace")
    return PipelineConfig(name="my songs", workspace=workspace, catalog={"path": "c"}, interactions={"path": "i"})


def champion(config, name):
    recipe = Recipe("stage2", 1, {}, {"name": name})
    with ArtifactStore(config.workspace).create(recipe):
        pass
    keys = {**{kind: kind for kind in SET}, "stage2": recipe.key}
    return switch_champion(config.workspace, keys, "", read_champion(config.workspace))


def alias(config, tmp_path):
    return open_client(f"file:{tmp_path / 'mlflow'}").get_model_version_by_alias(config.name, ALIAS)


def test_the_alias_follows_the_champion_back_and_forth(config, tmp_path):
    first, second = champion(config, "first"), champion(config, "second")
    for entry, version in ((first, 1), (second, 2), (first, 1), (second, 2)):
        follow_champion(config, entry)
        found = alias(config, tmp_path)
        assert (int(found.version), found.tags["key"]) == (version, entry.stage2)
        assert entry.stage2 in found.source


def test_a_registry_that_fails_is_told_and_does_no_harm(config, monkeypatch, caplog):
    monkeypatch.setenv(SERVER_VARIABLE, "http://127.0.0.1:9")
    caplog.set_level("WARNING", "htcl")
    follow_champion(config, champion(config, "first"))
    assert "MLflow does not follow the champion" in caplog.text


def test_without_mlflow_nothing_happens(config, tmp_path, monkeypatch):
    monkeypatch.delenv(SERVER_VARIABLE)
    follow_champion(config, champion(config, "first"))
    assert not (tmp_path / "mlflow").exists()
