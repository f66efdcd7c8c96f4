"""Published checkpoints to model folders and back."""

import json
import re
import shutil
import sys
from collections import OrderedDict

import pytest
import torch
from transformers import AutoModel

from htcl import cli
from htcl.models import HTCLConfig, HTCLModel, HTCLProcessor
from htcl.models.reference import export_reference, import_reference
from htcl.models.reference_state import published_shapes

from .reference import HEADS, VECTORS, assert_same, ddp, mel, parameter, published_state, tokens

STAGES = pytest.mark.parametrize("stage", [1, 2])


def relative_deviation(value, expected):
    expected = torch.as_tensor(expected)
    return ((value - expected).abs().max() / expected.abs().max()).item()


@STAGES
@pytest.mark.parametrize("seed", [7, 8, 2026])
def test_import_and_export_give_the_same_file_bit_for_bit(tmp_path, publish, stage, seed):
    state = published_state(stage, seed)
    for index, name in enumerate(name for name in state if name.startswith("tau")):
        state[name] = torch.tensor(2.6 + index)
    state["audio_mlp.0.bias"][:2] = torch.tensor([-0.0, 1e-42])
    import_reference(publish(state), tmp_path / "model", **HEADS)
    export_reference(tmp_path / "model", tmp_path / "again.pth")
    exported = torch.load(tmp_path / "again.pth", weights_only=True)
    assert type(exported) is dict
    assert_same(exported, state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.pth", "htcl.pth", "model"]


@STAGES
def test_the_imported_model_gives_the_authors_numbers(tmp_path, publish, stage):
    import_reference(publish(published_state(stage)), tmp_path / "model", **HEADS)
    for loader in (HTCLModel, AutoModel):
        model = loader.from_pretrained(tmp_path / "model").eval()
        assert isinstance(model, HTCLModel)
        with torch.no_grad():
            audio, text = model.get_audio_features(mel("mel1")), model.get_text_features(**tokens("tok1"))
        assert relative_deviation(audio, VECTORS["audio_embedding"]) < 1e-4
        assert relative_deviation(text, VECTORS["text_embedding"]) < 1e-4
        assert [temperature.shape for temperature in model.temperatures] == [(1,)] * (1 if stage == 1 else 3)


def test_heads_that_are_not_the_models_give_other_numbers(tmp_path, publish):
    import_reference(publish(published_state()), tmp_path / "model", audio_heads=12, text_heads=4)
    with torch.no_grad():
        audio = HTCLModel.from_pretrained(tmp_path / "model").eval().get_audio_features(mel("mel1"))
    assert relative_deviation(audio, VECTORS["audio_embedding"]) > 1e-3


@STAGES
def test_every_size_is_read_from_the_weights(tmp_path, publish, stage):
    audio = {
        "n_mels": 40,
        "conv_filters": [16, 24, 20],
        "conv_kernels": [7, 5, 3],
        "hidden_size": 36,
        "num_hidden_layers": 11,
        "num_attention_heads": 3,
        "intermediate_size": 52,
        "position_conv_kernel": 9,
        "position_conv_groups": 6,
    }
    text = {
        "vocab_size": 77,
        "hidden_size": 30,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "intermediate_size": 44,
        "max_position_embeddings": 19,
        "type_vocab_size": 4,
    }
    heads = {"projection_sizes": [15, 10], "fusion_sizes": [20, 13, 12, 10] if stage == 2 else [20, 10, 10]}
    config = HTCLConfig(audio_config=audio, text_config=text, stage=stage, **heads)
    state = {name: parameter(name, shape) for name, shape in published_shapes(config).items()}
    found = import_reference(publish(state), tmp_path / "model", audio_heads=3, text_heads=5)
    assert {name: getattr(found.audio_config, name) for name in audio} == audio
    assert {name: getattr(found.text_config, name) for name in text} == text
    assert {name: list(getattr(found, name)) for name in heads} == heads
    loaded = HTCLConfig.from_pretrained(tmp_path / "model")
    assert (loaded.stage, loaded.reference_parity, loaded.audio_config.dropout) == (stage, False, 0.1)
    assert loaded.text_config.hidden_act == "gelu"


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": OrderedDict(state), "optimizer": {"state": {}}},
        ddp,
        lambda state: {"model": ddp(state)},
        lambda state: {name: torch.nn.Parameter(value) for name, value in state.items()},
        lambda state: state | {"text_model.embeddings.position_ids": torch.arange(64)[None]},
        lambda state: dict(zip(state, views_of_one_buffer(state.values()), strict=True)),
    ],
    ids=["state_dict", "model", "module.", "model and module.", "parameters", "position_ids", "flat buffer"],
)
def test_what_training_scripts_save_around_the_state_is_taken_off(tmp_path, publish, wrapped):
    state = published_state(stage=2)
    import_reference(publish(wrapped(state)), tmp_path / "model", **HEADS)
    export_reference(tmp_path / "model", tmp_path / "again.pth")
    assert_same(torch.load(tmp_path / "again.pth", weights_only=True), state)


def views_of_one_buffer(values):
    values = list(values)
    parts = torch.cat([value.flatten() for value in values]).split([value.numel() for value in values])
    return [part.view(value.shape) for part, value in zip(parts, values, strict=True)]


def test_a_file_in_the_format_before_zip_is_read(tmp_path):
    torch.save(published_state(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert import_reference(tmp_path / "old.pth", tmp_path / "model", **HEADS).stage == 1


def test_the_model_card_tells_the_origin_and_no_path(tmp_path, publish, tokenizer):
    checkpoint = publish(published_state(stage=2), "stage2_best.pth")
    import_reference(checkpoint, tmp_path / "out" / "model", tokenizer=tokenizer, **HEADS)
    import_reference(checkpoint, tmp_path / "bare", **HEADS)
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert "stage2_best.pth" in card and "| fusion head | 32-32-16-16 |" in card and "| tokenizer | 10 tokens |" in card
    assert "4 heads" in card and "save_pretrained" not in card
    assert "max_tokens=64" in (tmp_path / "bare" / "README.md").read_text()
    for path in [*(tmp_path / "out" / "model").iterdir(), *(tmp_path / "bare").iterdir()]:
        assert str(tmp_path).encode() not in path.read_bytes()


@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_what_the_card_tells_to_write_runs(tmp_path, publish, tokenizer, with_tokenizer):
    folder = tmp_path / "model"
    import_reference(publish(published_state()), folder, tokenizer=tokenizer if with_tokenizer else None, **HEADS)
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == (1 if with_tokenizer else 2)
    values = {"FOLDER": folder, "TEXT_ENCODER": tokenizer, "samples": torch.zeros(48_000).numpy()}
    exec("".join(blocks), values)
    assert values["audio"].shape == values["text"].shape == (1, 16)
    assert HTCLModel.from_pretrained(folder, reference_parity=True).config.reference_parity
    processor = HTCLProcessor.from_pretrained(folder)
    assert processor.audio_config.conv_filters == [32, 32, 32]
    # This BERT has 64 positions: a longer text is cut, not an error.
    model = HTCLModel.from_pretrained(folder)
    assert model.get_text_features(**processor(text=["night song by the sea " * 40])).shape == (1, 16)


def test_an_empty_folder_is_filled_and_parents_are_made(tmp_path, publish):
    checkpoint = publish(published_state())
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "not" / "there" / "yet"):
        import_reference(checkpoint, folder, **HEADS)
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    export_reference(tmp_path / "empty", tmp_path / "neither" / "this" / "again.pth")
    assert [path.name for path in (tmp_path / "neither" / "this").iterdir()] == ["again.pth"]


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["htcl", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return end.code


def test_the_commands(tmp_path, publish, tokenizer, monkeypatch, capsys):
    state = published_state(stage=2)
    checkpoint, heads = publish(state), ["--audio-heads", "4", "--text-heads", "4"]
    assert not command(monkeypatch, "import-reference", checkpoint, tmp_path / "bare", *heads)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"stage 2 model of htcl.pth: {tmp_path / 'bare'}"
    assert len(lines) == 2 and lines[1].startswith("it has no tokenizer: ") and "--tokenizer" in lines[1]
    full = tmp_path / "full"
    assert not command(monkeypatch, "import-reference", checkpoint, full, *heads, "--tokenizer", tokenizer)
    assert capsys.readouterr().out == f"stage 2 model of htcl.pth: {full}\n"
    assert HTCLProcessor.from_pretrained(full).tokenizer is not None
    assert not command(monkeypatch, "export-reference", full, tmp_path / "again.pth")
    assert capsys.readouterr().out == f"checkpoint of {full}: {tmp_path / 'again.pth'}\n"
    assert_same(torch.load(tmp_path / "again.pth", weights_only=True), state)
    assert command(monkeypatch, "import-reference", checkpoint, full) == 1
    error = capsys.readouterr().err
    assert error.startswith("htcl: ") and error.count("\n") == 1 and "is there already" in error


FULL_SIZE = {"stage": 2, "text_config": {"vocab_size": 105_879}}


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """A checkpoint of the published size, 1 GB, imported; deleted at the end, as pytest keeps its folders for days."""
    folder = tmp_path_factory.mktemp("full_size")
    shapes = published_shapes(HTCLConfig(**FULL_SIZE))
    torch.save({name: parameter(name, shape) for name, shape in shapes.items()}, folder / "htcl.pth")
    import_reference(folder / "htcl.pth", folder / "model")
    yield folder
    shutil.rmtree(folder)


def test_at_the_published_size_all_that_is_read_is_the_default(full_size):
    expected = HTCLConfig(**FULL_SIZE).to_dict()
    found = HTCLConfig.from_pretrained(full_size / "model").to_dict()
    # As JSON, where a tuple is a list; what save_pretrained adds is no size.
    added = {"architectures", "dtype", "transformers_version", "_name_or_path"}
    assert as_json(found, added) == as_json(expected, added)


def as_json(config, without):
    parts = {name: as_json(value, without) if isinstance(value, dict) else value for name, value in config.items()}
    return json.loads(json.dumps({name: value for name, value in parts.items() if name not in without}))


def test_at_the_published_size_the_file_comes_back_bit_for_bit(full_size):
    export_reference(full_size / "model", full_size / "again.pth")
    files = [torch.load(full_size / name, weights_only=True, mmap=True) for name in ("again.pth", "htcl.pth")]
    assert_same(*files)


def test_at_the_published_size_the_embeddings_are_those_of_the_weights(full_size):
    found = embeddings(HTCLModel.from_pretrained(full_size / "model"))
    direct = HTCLModel(HTCLConfig(**FULL_SIZE))
    direct.load_state_dict(torch.load(full_size / "htcl.pth", weights_only=True, mmap=True))
    for value, expected in zip(found, embeddings(direct), strict=True):
        assert value.shape == (2, 100) and value.std() > 0
        assert relative_deviation(value, expected) < 1e-6


@torch.no_grad()
def embeddings(model):
    model.eval()
    audio, text = (
        model.get_audio_features(mel("mel1")[:2, :60]),
        model.get_text_features(tokens("tok1")["input_ids"][:2]),
    )
    return audio, text, model.get_fusion_features(audio, text)
