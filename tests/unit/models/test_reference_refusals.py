"""What is no published checkpoint, and what cannot become one, is refused in a sentence and leaves nothing behind."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from htcl.errors import HTCLError
from htcl.models import HTCLModel
from htcl.models.reference import export_reference, import_reference
from htcl.models.reference_state import read_config

from .reference import HEADS, VECTORS, ddp, published_state, reference_config

CONV = "audio_model.feature_extractor.layers.0.1.weight"
POSITION = "audio_model.pos_conv_embed.conv.parametrizations.weight"
BERT = BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)


def refusal(checkpoint, folder, **options):
    """The sentence of a refused import, which leaves nothing behind."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(HTCLError) as caught:
        import_reference(checkpoint, folder, **(HEADS | options))
    assert sorted(folder.parent.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path, publish, tokenizer):
    checkpoint, folder = publish(published_state()), tmp_path / "model"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{index}" for index in range(196))]
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(tmp_path / "large")
    BertModel(BERT).save_pretrained(tmp_path / "weights")
    shutil.copytree(tokenizer, tmp_path / "damaged")
    (tmp_path / "damaged" / "tokenizer.json").write_text('{"version": 1}')
    for name, words in {
        "large": "has 201 tokens, the checkpoint embeds 200",
        "weights": "has no vocabulary",
        "damaged": "no tokenizer can be read from",
        "none": "no tokenizer can be read from",
    }.items():
        message = refusal(checkpoint, folder, tokenizer=tmp_path / name)
        assert words in message and str(tmp_path / name) in message and "give the" in message


def lacking(*starts):
    return lambda state: {name: value for name, value in state.items() if not name.startswith(starts)}


def with_value(name, value):
    return lambda state: state | {name: value(state[name]) if callable(value) else value}


def renamed(old, new):
    return lambda state: {name.replace(old, new): value for name, value in state.items()}


DAMAGES = {
    "no mapping": (list, "is no HTCL checkpoint"),
    "empty": (lambda state: {}, "is no HTCL checkpoint"),
    "other model": (lambda state: {"fc.weight": torch.zeros(2, 2)}, "is no HTCL checkpoint"),
    "numbers for names": (lambda state: dict(enumerate(state.values())), "is no HTCL checkpoint"),
    "optimizer only": (lambda state: {"state_dict": {}, "epoch": 3}, "is no HTCL checkpoint"),
    "two models": (lambda state: {"state_dict": state, "model": state}, "holds both state_dict and model"),
    "some prefixed": (
        lambda state: ddp(lacking("text_mlp")(state)) | lacking("a", "tau", "text_model", "fusion")(state),
        "with the prefix module. (module.tau",
    ),
    "prefixed twice": (lambda state: ddp(ddp(state)), "is no HTCL checkpoint"),
    "one key missing": (lacking("audio_model.cls_token"), "(audio_model.cls_token): save the whole"),
    "the audio encoder only": (lambda state: {"audio_model.cls_token": torch.zeros(1, 1, 48)}, " keys of a stage 1"),
    "text encoder missing": (lacking("text_model."), "lacks 7 of the "),
    "inner layer missing": (
        lacking("audio_model.transformer_encoder.layers.0."),
        "(audio_model.transformer_encoder.layers.0.self_attn.in_proj_weight, ",
    ),
    "convolution missing": (lacking("audio_model.feature_extractor.layers.2."), "lacks 3 of the "),
    "head layer missing": (lacking("text_mlp.3.weight"), "(text_mlp.3.weight)"),
    "key unexpected": (with_value("audio_model.extra", torch.zeros(1)), "1 in all (audio_model.extra)"),
    "a fourth convolution": (
        with_value(CONV.replace("layers.0", "layers.3"), torch.zeros(4, 4, 3)),
        "(audio_model.feature_extractor.layers.3.1.weight)",
    ),
    "huge layer number": (
        renamed("transformer_encoder.layers.1.", "transformer_encoder.layers.1000000000."),
        "lacks 12 of the ",
    ),
    "both stages": (
        lambda state: published_state(1) | published_state(2),
        "mixes the stages, tau of stage 1 with tau_1, tau_2, tau_3, ... of stage 2",
    ),
    "no tensor": (with_value(CONV, "x"), f"{CONV} in FILE is a str"),
    "float16": (with_value(CONV, torch.Tensor.half), f"{CONV} in FILE is torch.float16"),
    "bfloat16": (with_value("audio_mlp.0.bias", torch.Tensor.bfloat16), "audio_mlp.0.bias in FILE is torch.bfloat16"),
    "float64": (with_value(CONV, torch.Tensor.double), f"{CONV} in FILE is torch.float64"),
    "integers": (with_value(CONV, torch.Tensor.int), f"{CONV} in FILE is torch.int32"),
    "sparse": (with_value("audio_mlp.0.weight", torch.Tensor.to_sparse), "audio_mlp.0.weight in FILE is torch.float32"),
    "nan": (with_value("audio_mlp.0.bias", torch.full((24,), torch.nan)), "audio_mlp.0.bias in FILE has NaN"),
    "infinite": (with_value("audio_mlp.3.bias", torch.full((12,), -torch.inf)), "audio_mlp.3.bias in FILE has NaN"),
    "temperature with a dimension": (with_value("tau_1", torch.ones(1)), "tau_1 in FILE has shape [1], but"),
    "dimension missing": (with_value(CONV, lambda value: value[0]), f"{CONV} in FILE has shape [128, 5], but"),
    "empty tensor": (with_value(CONV, torch.zeros(32, 0, 5)), f"{CONV} in FILE has shape [32, 0, 5], but"),
    "groups that do not divide": (
        with_value(f"{POSITION}.original1", torch.ones(48, 5, 31)),
        f"{POSITION}.original1 in FILE has shape [48, 5, 31], but with the other weights it should be [48, a divisor",
    ),
    "even kernel": (
        lambda state: (
            state | {f"{POSITION}.original0": torch.ones(1, 1, 30), f"{POSITION}.original1": torch.ones(48, 3, 30)}
        ),
        "it should be [48, a divisor of 48, an odd number]",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_no_whole_checkpoint_is_refused_in_a_sentence(tmp_path, publish, damage, words):
    checkpoint = publish(damage(published_state(stage=2)))
    message = refusal(checkpoint, tmp_path / "model")
    assert str(checkpoint) in message
    assert words.replace("FILE", str(checkpoint)) in message


@pytest.mark.parametrize("axis", [0, 1])
def test_a_wrong_shape_is_named_with_what_it_should_be(axis):
    state, source = published_state(stage=2), Path("htcl.pth")
    for name, shape in VECTORS["stage2_state_dict"].items():
        if len(shape) <= axis or ".1." in name or tells_the_size_alone(name, axis):
            continue
        wrong = [size * 2 if index == axis else size for index, size in enumerate(shape)]
        with pytest.raises(HTCLError) as caught:
            read_config(state | {name: torch.ones(wrong)}, source, 4, 4)
        assert f"{name} in htcl.pth has shape {wrong}, but" in str(caught.value)
        assert f"it should be {shape}: " in str(caught.value)


def tells_the_size_alone(name, axis):
    """Whether the checkpoint with this size doubled is that of another model, or only one weight says otherwise."""
    alone = {
        ("word_embeddings.weight", 0),
        ("position_embeddings.weight", 0),
        ("token_type_embeddings.weight", 0),
        ("layers.0.1.weight", 1),
        ("original1", 1),
        ("fusion_mlp.0.weight", 0),
        ("fusion_mlp.3.weight", 0),
        ("fusion_mlp.6.weight", 0),
    }
    return any(name.endswith(end) and axis == where for end, where in alone)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"audio_heads": 5}, "width of 48, no multiple of 5 attention heads: give --audio-heads"),
        ({"text_heads": 7}, "width of 48, no multiple of 7 attention heads: give --text-heads"),
        ({"audio_heads": 0}, "give --audio-heads"),
    ],
)
def test_heads_that_do_not_divide_the_width_are_refused(tmp_path, publish, options, words):
    assert words in refusal(publish(published_state()), tmp_path / "model", **options)


class Harmful:
    def __reduce__(self):
        return print, ("this must not be printed",)


def test_files_that_torch_cannot_read_safely_are_refused(tmp_path, capsys):
    torch.save({"model": Harmful()}, tmp_path / "harmful.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    torch.save(published_state(), tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:20_000])
    (tmp_path / "text.pth").write_text("hello world")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"a": Harmful()}, protocol=2))
    for name, words in {
        "harmful": "nothing in it was run",
        "module": "save the model's state_dict() alone",
        "pickle": "nothing in it was run",
        "half": "is damaged or no file of torch.save",
        "text": "is damaged or no file of torch.save",
        "empty": "is damaged or no file of torch.save",
        "folder": "check the path",
        "none": "No such file or directory): check the path",
    }.items():
        message = refusal(tmp_path / f"{name}.pth", tmp_path / "model")
        assert words in message and f"{name}.pth" in message
    assert "must not" not in capsys.readouterr().out


def test_nothing_that_is_there_is_overwritten(tmp_path, publish):
    checkpoint = publish(published_state())
    import_reference(checkpoint, tmp_path / "model", **HEADS)
    assert "model is there already and not empty" in refusal(checkpoint, tmp_path / "model")
    assert "htcl.pth is there already" in refusal(checkpoint, checkpoint)
    assert "cannot write" in refusal(checkpoint, checkpoint / "model")
    before = checkpoint.read_bytes()
    for taken in (checkpoint, tmp_path / "model"):
        with pytest.raises(HTCLError, match="is there already: choose another name or delete it"):
            export_reference(tmp_path / "model", taken)
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "Ctrl-C"])
def test_what_ends_halfway_leaves_nothing(tmp_path, publish, monkeypatch, error):
    checkpoint = publish(published_state())
    import_reference(checkpoint, tmp_path / "model", **HEADS)
    before = sorted(tmp_path.rglob("*"))

    def end(*_, **__):
        raise error

    monkeypatch.setattr("htcl.models.reference.reference_card", end)
    monkeypatch.setattr("torch.save", end)
    expected = HTCLError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        import_reference(checkpoint, tmp_path / "other", **HEADS)
    with pytest.raises(expected):
        export_reference(tmp_path / "model", tmp_path / "again.pth")
    assert sorted(tmp_path.rglob("*")) == before


def saved(folder, model):
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text_pooling": "mean"}, "has text_pooling mean, the published format knows only pooler"),
        ({"audio_config": {"conv_strides": [2, 2, 1]}}, "has audio_config.conv_strides"),
        ({"audio_config": {"layer_norm_eps": 1e-3}}, "has audio_config.layer_norm_eps"),
        ({"text_config": {"layer_norm_eps": 1e-5}}, "has text_config.layer_norm_eps"),
        ({"text_config": {"hidden_act": "relu"}}, "has text_config.hidden_act relu"),
    ],
)
def test_what_the_published_format_cannot_tell_is_not_exported(tmp_path, changes, words):
    config = reference_config()
    for name, value in changes.items():
        if isinstance(value, dict):
            for key, setting in value.items():
                setattr(getattr(config, name), key, setting)
        else:
            setattr(config, name, value)
    folder = saved(tmp_path / "model", HTCLModel(config))
    with pytest.raises(HTCLError, match="the published format knows only") as caught:
        export_reference(folder, tmp_path / "again.pth")
    assert words in str(caught.value) and str(folder) in str(caught.value)


def test_folders_without_a_whole_model_are_not_exported(tmp_path, publish):
    import_reference(publish(published_state()), tmp_path / "whole", **HEADS)
    model = HTCLModel.from_pretrained(tmp_path / "whole")
    saved(tmp_path / "bert", BertModel(BERT))
    saved(tmp_path / "half", HTCLModel.from_pretrained(tmp_path / "whole").half())
    diverged = HTCLModel.from_pretrained(tmp_path / "whole")
    torch.nn.init.constant_(diverged.tau, torch.nan)
    saved(tmp_path / "diverged", diverged)
    state = {name: value for name, value in model.state_dict().items() if name != "tau"}
    model.save_pretrained(tmp_path / "lacking", state_dict=state)
    for name in ("damaged", "bare", "config"):
        shutil.copytree(tmp_path / "whole", tmp_path / name)
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"junk" * 9)
    (tmp_path / "bare" / "model.safetensors").unlink()
    (tmp_path / "config" / "config.json").write_text('{"model_type": "htcl", "stage": 7}')
    for name, words in {
        "none": "it has no config.json",
        "bert": "holds a model of type bert",
        "half": "is torch.float16",
        "diverged": "tau in",
        "lacking": "(1 keys, such as tau)",
        "damaged": "cannot be read as an HTCL model",
        "bare": "cannot be read as an HTCL model",
        "config": "expected one of (1, 2), got 7",
    }.items():
        with pytest.raises(HTCLError) as caught:
            export_reference(tmp_path / name, tmp_path / "again.pth")
        assert words in str(caught.value) and str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "again.pth").exists()
