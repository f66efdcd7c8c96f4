import json
import math
import re
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from htcl import config
from htcl.audio.features import num_frames
from htcl.config import CONV_KERNELS, CONV_STRIDES, PipelineConfig, Section, TextColumn, fingerprint, min_frames
from htcl.models import HTCLAudioConfig
from htcl.schemas import CATALOG


def is_section(value):
    return isinstance(value, type) and issubclass(value, Section)


SECTIONS = [value for value in vars(config).values() if is_section(value) and value is not Section]


def load(**sections):
    values = {"workspace": "work", "catalog": {"path": "catalog"}, **sections}
    values["interactions"] = {"path": "log", **sections.get("interactions", {})}
    return PipelineConfig.model_validate(values)


def refusal(**sections):
    with pytest.raises(ValidationError) as caught:
        load(**sections)
    (problem,) = caught.value.errors()
    return ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_says_what_it_does(section):
    fields = {name: field for name, field in section.model_fields.items() if not is_section(field.annotation)}
    assert [name for name, field in fields.items() if not field.description] == []


def test_text_is_read_from_the_columns_that_describe_a_song():
    others = {"track_id", "audio_path", "duration_s", "split_group"}
    assert [name for name in CATALOG.names if name not in others] == list(get_args(TextColumn))
    assert load(model={"text_fields": ["release_date", "title"]}).model.text_fields == ["release_date", "title"]


@pytest.mark.parametrize("name", ["titel", "track_id", "audio_path"])
def test_a_column_that_is_no_text_is_refused_where_it_stands(name):
    assert refusal(model={"text_fields": ["title", name]})[0] == "model.text_fields.1"


@pytest.mark.parametrize("name", ["UTC", "CET", "Europe/Berlin", "Etc/GMT-2"])
def test_time_zones_are_those_of_the_iana_database(name):
    assert load(interactions={"timezone": name}).interactions.timezone == name


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("Berlin", "did you mean 'Europe/Berlin'?"),
        ("utc", "did you mean 'UTC'?"),
        ("Europe", "did you mean "),
        ("+02:00", "give an IANA name, such as Europe/Berlin"),
        ("/etc/passwd", "give an IANA name, such as Europe/Berlin"),
        ("", "give an IANA name, such as Europe/Berlin"),
    ],
)
def test_an_unknown_time_zone_names_the_nearest(name, way_out):
    key, message = refusal(interactions={"timezone": name})
    assert key == "interactions.timezone"
    assert message.startswith(f"{name!r} is no time zone; {way_out}")


@pytest.mark.parametrize(
    ("sections", "key", "message"),
    [
        (
            {"split": {"test_share": 0.6, "validation_share": 0.4}},
            "split",
            "test_share = 0.6 and validation_share = 0.4 leave nothing to train on; lower one of them",
        ),
        (
            {"training": {"processes": 3}},
            "",
            "stage1.global_batch_size = 32 is not a multiple of training.processes = 3; change one of them",
        ),
        (
            {"model": {"fusion_sizes": [200, 64]}},
            "model",
            "fusion_sizes ends in 64 and projection_sizes in 100, but stage 2 compares the two embeddings; "
            "end both in the same number",
        ),
        (
            {"model": {"hidden_size": 80}},
            "model",
            "hidden_size = 80 is not a multiple of num_attention_heads = 12; change one of them",
        ),
        (
            {"audio": {"max_seconds": 10, "min_seconds": 10.5}},
            "audio",
            "max_seconds = 10 is less than min_seconds = 10.5, which rejects every song; raise max_seconds",
        ),
        (
            {"audio": {"min_seconds": 1.53}},
            "",
            "audio.min_seconds = 1.53 lets in audio of less than 17 frames, which the audio encoder cannot read; "
            "set it to 1.54 or more",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_told_with_the_way_out(sections, key, message):
    assert refusal(**sections) == (key, message)


def test_settings_that_just_fit_are_taken():
    made = load(
        split={"test_share": 0.6, "validation_share": 0.39},
        training={"processes": 16},
        model={"fusion_sizes": [64], "projection_sizes": [300, 64], "hidden_size": 96},
        audio={"max_seconds": 1.54, "min_seconds": 1.54},
    )
    assert made.model.fusion_sizes[-1] == made.model.projection_sizes[-1] == 64


@pytest.mark.parametrize("name", ["conv_filters", "projection_sizes", "fusion_sizes"])
def test_every_size_of_a_list_is_positive(name):
    assert refusal(model={name: [100, 0, 100]})[0] == f"model.{name}.1"


@pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"])
def test_every_size_is_positive(name):
    assert refusal(model={name: 0})[0] == f"model.{name}"


@pytest.mark.parametrize("name", ["projection_sizes", "fusion_sizes", "text_fields"])
def test_a_list_that_must_hold_something_does(name):
    assert refusal(model={name: []})[0] == f"model.{name}"


@pytest.mark.parametrize(("section", "name"), [("training", "seed"), ("evaluation", "seed"), ("pairs", "min_lift")])
def test_what_cannot_be_negative_is_not(section, name):
    assert refusal(**{section: {name: -1}})[0] == f"{section}.{name}"
    assert getattr(getattr(load(**{section: {name: 0}}), section), name) == 0


def test_the_frames_that_audio_needs_are_those_of_the_model():
    model = HTCLAudioConfig()
    assert (tuple(model.conv_kernels), tuple(model.conv_strides)) == (CONV_KERNELS, CONV_STRIDES)
    assert min_frames() == model.min_frames


@settings(max_examples=40)
@given(rate=st.integers(4_000, 96_000), hop=st.integers(1, 4096))
def test_the_seconds_asked_for_give_frames_enough_and_little_more(rate, hop):
    audio = {"sample_rate": rate, "hop_length": hop}
    seconds = float(re.search(r"set it to (\S+) or more", refusal(audio=audio | {"min_seconds": 1e-9})[1])[1])
    assert load(audio=audio | {"min_seconds": seconds})
    assert num_frames(math.ceil(seconds * rate), hop) >= min_frames()
    assert num_frames(math.floor((seconds - 0.011) * rate), hop) < min_frames()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=40)
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), json_values, max_size=5))
def test_the_order_of_keys_does_not_change_a_fingerprint(value):
    assert fingerprint(value) == fingerprint(reordered(value))
    assert fingerprint(value) == fingerprint(json.loads(json.dumps(value)))


def test_a_fingerprint_is_the_same_in_every_release():
    assert fingerprint({"b": [1, None], "a": "é"}) == "3d92f6368f93f3cb"
    assert fingerprint({"b": [1, None], "a": "e"}) != fingerprint({"b": [1, None], "a": "é"})
    assert fingerprint(["a", "b"]) != fingerprint(["b", "a"])


@pytest.mark.parametrize(
    "recipe",
    [
        {"stage1": {"text_field_dropout": 0.1}},
        {"stage2": {"hard_negative_share": 0.5}},
        {"stage2": {"popularity_correction": True}},
    ],
)
def test_reference_parity_refuses_what_the_authors_do_not_do(recipe):
    ((stage, section),) = recipe.items()
    with pytest.raises(ValidationError, match=rf"{stage}.{next(iter(section))} = .* is not what the authors do"):
        load(model={"reference_parity": True}, **recipe)


def test_slots_of_a_hostfile_and_not_processes_share_out_the_batch():
    settings = {"training": {"processes": 3, "hostfile": "hosts"}, "stage1": {"global_batch_size": 32}}
    assert load(**settings).training.hostfile == "hosts"
