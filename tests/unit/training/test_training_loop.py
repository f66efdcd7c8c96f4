"""The parts of the loop: what it reads, what it hands to DeepSpeed, which precision is where."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from htcl.artifacts import ArtifactStore
from htcl.errors import HTCLError
from htcl.training import loop
from htcl.training.metrics import check_finite, mean_over_ranks


def test_a_logged_figure_is_the_mean_over_ranks(monkeypatch):
    other = torch.tensor([3.0, 7.0])
    monkeypatch.setattr(loop.dist, "all_reduce", lambda values: values.add_(other))
    monkeypatch.setattr(loop.dist, "get_world_size", lambda: 2)
    figures = {"loss": torch.tensor(1.0, requires_grad=True), "term": torch.tensor(2.0, dtype=torch.bfloat16)}
    assert mean_over_ranks(figures) == {"loss": 2.0, "term": 4.5}


@pytest.fixture
def alone(monkeypatch):
    """One rank without a process group."""
    monkeypatch.setattr(loop.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(loop.dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(loop.deepspeed, "init_distributed", lambda **options: None)


def test_epochs_come_from_the_recipe_and_text_fields_and_parity_from_the_model(project, processor, alone):
    """A fine-tune has fewer epochs than the stage, and reads the fields that its champion was trained on."""
    config, step = project("recipe", {}, {"epochs": 16})
    section = {**step.recipe.section, "stage1": {**step.recipe.section["stage1"], "epochs": 2}}
    processor.text_fields, processor.reference_parity = ["genre", "title"], True
    step = replace(step, recipe=replace(step.recipe, section=section))
    loader = loop._loader(config, step, config.stage1, ArtifactStore(config.workspace), processor)
    assert (loader.schedule.epochs, loader.schedule.total_steps) == (2, 6)
    assert loader.songs._fields == ["genre", "title"] and loader.reference_parity


@pytest.mark.parametrize(
    ("ranks", "batch", "sentence"),
    [
        (1, 13, "stage1: 12 samples do not fill one batch; lower stage1.global_batch_size"),
        (3, 4, "stage1.global_batch_size = 4 is not a multiple of the 3 ranks"),
    ],
)
def test_a_batch_that_cannot_be_filled_or_shared_out_is_named(
    project, processor, alone, monkeypatch, ranks, batch, sentence
):
    config, step = project("batch", {"processes": 1}, {"global_batch_size": batch})
    monkeypatch.setattr(loop.dist, "get_world_size", lambda: ranks)
    with pytest.raises(HTCLError, match=sentence):
        loop._loader(config, step, config.stage1, ArtifactStore(config.workspace), processor)


def test_no_epochs_are_no_steps(project, processor, alone):
    config, step = project("untrained", {}, {"epochs": 0})
    loader = loop._loader(config, step, config.stage1, ArtifactStore(config.workspace), processor)
    assert loader.schedule.total_steps == 0 and list(loader.batches()) == []


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_forward_and_not_of_the_weights(
    project, tiny_model, songs, alone, monkeypatch, precision, dtype
):
    config, _ = project("precision", {"precision": precision}, {})
    handed = []
    monkeypatch.setattr(loop.deepspeed, "initialize", lambda **arguments: (handed.append(arguments), None))
    model = tiny_model()
    loop.start_engine(config, config.stage1, model, 10)
    seen = []
    model.audio_mlp.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    rows = np.arange(3)
    handed[0]["model"]([songs.inputs(rows, songs.mels(rows))])
    assert seen == [dtype]
    assert "bf16" not in handed[0]["config"] and {p.dtype for p in model.parameters()} == {torch.float32}


def test_settings_of_deepspeed_are_passed_on_beside_ours(project, tiny_model, alone, monkeypatch):
    further = {"zero_optimization": {"overlap_comm": True}, "communication_data_type": "fp32"}
    config, _ = project("further", {"zero_stage": 2, "deepspeed": further, "gradient_clipping": 0.5}, {})
    handed = {}
    monkeypatch.setattr(loop.deepspeed, "initialize", lambda **arguments: (handed.update(arguments), None))
    loop.start_engine(config, config.stage1, tiny_model(), 10)
    settings = handed["config"]
    assert settings["zero_optimization"] == {"overlap_comm": True, "stage": 2}
    assert settings["communication_data_type"] == "fp32" and settings["gradient_clipping"] == 0.5
    loop.start_engine(config, config.stage1, tiny_model(reference_parity=True), 10)
    assert handed["config"]["gradient_clipping"] == 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activation_checkpointing_computes_layers_again(project, tiny_model, songs, alone, monkeypatch, checkpointing):
    config, _ = project("checkpointing", {"activation_checkpointing": checkpointing}, {"dropout": 0.2})
    handed = {}
    monkeypatch.setattr(loop.deepspeed, "initialize", lambda **arguments: (handed.update(arguments), None))
    model = tiny_model()
    loop.start_engine(config, config.stage1, model, 10)
    model.train()
    calls = []
    model.audio_model.transformer_encoder.layers[0].linear1.register_forward_hook(lambda *_: calls.append(1))
    rows = np.arange(3)
    handed["model"]([songs.inputs(rows, songs.mels(rows))])[0].sum().backward()
    assert len(calls) == 1 + checkpointing


@pytest.mark.parametrize(
    ("section", "rates"),
    [
        ({}, [1, 1, 1, 1, 1]),
        ({"warmup_ratio": 0.4}, [0, 1 / 2, 1, 1, 1]),
        ({"lr_scheduler_type": "cosine"}, [1, (1 + math.cos(math.pi / 5)) / 2, (1 + math.cos(math.pi * 2 / 5)) / 2]),
        ({"lr_scheduler_type": "cosine", "warmup_ratio": 0.2}, [0, 1, (1 + math.cos(math.pi / 4)) / 2, 1 / 2]),
    ],
)
def test_learning_rates_follow_the_schedule(project, tiny_model, alone, monkeypatch, section, rates):
    config, _ = project("schedule", {}, section)
    handed = {}
    monkeypatch.setattr(loop.deepspeed, "initialize", lambda **arguments: (handed.update(arguments), None))
    loop.start_engine(config, config.stage1, tiny_model(), 5)
    optimizer = handed["optimizer"]
    schedule = handed["lr_scheduler"](optimizer)
    seen = []
    for _ in rates:
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    peaks = {"text_encoder": config.stage1.text_encoder_lr, "audio_encoder": config.stage1.audio_encoder_lr}
    for step, rate in zip(seen, rates, strict=True):
        wanted = [rate * peaks.get(group["name"], config.stage1.head_lr) for group in optimizer.param_groups]
        assert step == pytest.approx(wanted)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_run_that_has_lost_its_loss_ends_before_it_spoils_a_checkpoint(loss):
    engine = SimpleNamespace(module=torch.nn.Linear(2, 2), skipped_steps=0)
    check_finite(3, {"loss": 1.5}, engine)
    with pytest.raises(HTCLError, match=rf"the loss is {loss} at step 3 or before; lower the learning rates"):
        check_finite(3, {"loss": loss}, engine)


@pytest.mark.parametrize(("weight", "skipped"), [(math.nan, 0), (math.inf, 0), (1.0, 1)])
def test_a_run_that_has_lost_its_weights_or_an_update_ends_too(weight, skipped):
    """The loss is that from before the update; ZeRO leaves an update out."""
    engine = SimpleNamespace(module=torch.nn.Linear(2, 2), skipped_steps=skipped)
    torch.nn.init.constant_(engine.module.bias, weight)
    with pytest.raises(HTCLError, match="a gradient was not finite at step 3 or before"):
        check_finite(3, {"loss": 1.5}, engine)
