"""The form of a flow's settings: its schema, and how values are laid over the file."""

import json

import jsonschema
import pytest
from prefect.utilities.callables import parameter_schema

from flows.backfill import backfill
from flows.full_pipeline import full_pipeline
from flows.nightly_finetune import nightly_finetune
from flows.promote import promote
from flows.settings import Settings
from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.errors import HTCLError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "htcl.yaml"
    path.write_text("workspace: w\ncatalog: {path: c}\ninteractions: {path: i}\npairs: {top_k: 7, min_users: 3}\n")
    return path


def form(flow):
    schema = parameter_schema(flow.fn).model_dump_for_openapi()
    settings = schema["properties"]["settings"]
    while "$ref" in settings:
        settings = schema["definitions"][settings["$ref"].rpartition("/")[2]]
    if "allOf" in settings:
        settings = schema["definitions"][settings["allOf"][0]["$ref"].rpartition("/")[2]]
    return schema, settings


@pytest.mark.parametrize("flow", [full_pipeline, nightly_finetune, backfill, promote])
def test_the_form_has_every_field_with_its_description(flow):
    _, settings = form(flow)
    assert settings["properties"].keys() == PipelineConfig.model_fields.keys()
    for name, section in PipelineConfig.model_fields.items():
        shown = settings["properties"][name]
        fields = getattr(section.annotation, "model_fields", None)
        if fields is None:
            assert section.description in shown["description"]
            continue
        for field, info in fields.items():
            assert info.description in shown["properties"][field]["description"], (name, field)


def test_nothing_is_required_and_nothing_filled_in():
    text = json.dumps(form(full_pipeline)[1])
    assert '"required"' not in text
    assert '"default":' not in text
    assert "$ref" not in text
    assert "(by default 50)" in text


def test_what_the_flow_asks_for_is_explained():
    schema, _ = form(backfill)
    for name in ("config", "start", "end", "what", "dry_run"):
        assert schema["properties"][name]["description"], name
    assert schema["required"] == ["config"]


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ({}, True),
        ({"pairs": {"top_k": 20}}, True),
        ({"pairs": {"window_days": None}}, True),
        ({"interactions": {"positive": {"like": {}}}}, True),
        ({"pairs": {"top_k": "many"}}, False),
        ({"pairs": {"top_j": 20}}, False),
        ({"pears": {}}, False),
    ],
)
def test_the_schema_takes_what_the_configuration_takes(values, fits):
    _, settings = form(full_pipeline)
    assert jsonschema.Draft202012Validator(settings).is_valid(values) == fits


def test_settings_are_laid_over_the_file(file):
    settings = Settings.model_validate({"pairs": {"top_k": 20}})
    pairs = load_config(file, settings=settings.values).pairs
    assert (pairs.top_k, pairs.min_users) == (20, 3)
    assert load_config(file, settings=Settings().values) == load_config(file)


def test_overrides_come_last(file):
    assert load_config(file, ["pairs.top_k=4"], {"pairs": {"top_k": 20}}).pairs.top_k == 4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"pairs": {"top_j": 1}}, "'pairs.top_j'; did you mean 'top_k'"),
        ({"preset": "demo"}, "preset cannot be overridden"),
        ({"pairs": {"top_k": 0}}, "'pairs.top_k'"),
    ],
)
def test_wrong_settings_are_one_sentence(file, values, words):
    with pytest.raises(HTCLError, match=words):
        load_config(file, settings=Settings.model_validate(values).values)
