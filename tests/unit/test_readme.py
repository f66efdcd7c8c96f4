"""What the README tells people to write and to run."""

import re

import yaml

from htcl.config_file import load_config, validate_config

from ..integration.harness import ROOT

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_configuration_of_the_readme_is_valid():
    values = yaml.safe_load(blocks("yaml")[0])
    assert values.pop("preset") == "base"
    assert validate_config(values, "README.md").catalog.columns == {"track_id": "song_id", "title": "name"}


def test_the_settings_for_machines_lie_over_a_preset(tmp_path):
    for path in sorted((ROOT / "infra" / "deepspeed").glob("*.yaml")):
        (tmp_path / "my.yaml").write_text(
            f"preset: [base, {path}]\nworkspace: w\ncatalog: {{path: c}}\ninteractions: {{path: l}}\n"
        )
        training = load_config(tmp_path / "my.yaml").training
        assert path.name in README or path.name in (path.parent / "README.md").read_text()
        assert training.model_fields_set > {"precision", "zero_stage"}


def test_every_make_target_that_the_readme_names_is_there():
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets
