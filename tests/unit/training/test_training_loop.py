"""The parts of the loop: what goes to the device, what is logged, which checkpoints stay, which precision is where."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from htcl.training import loop
from htcl.training.loop import mean_over_ranks, prune_checkpoints, to_device


def test_every_tensor_of_a_batch_is_moved():
    batch = ({"input_features": torch.zeros(2, 3), "more": [torch.zeros(4), "x"]}, torch.zeros(2, 1, dtype=torch.int64))
    inputs, rows = to_device(batch, "meta")
    assert inputs["input_features"].is_meta and inputs["more"][0].is_meta and rows.is_meta
    assert inputs["more"][1] == "x"


def test_a_batch_keeps_values_and_types(songs):
    inputs = songs.inputs(torch.arange(3).numpy())
    moved = to_device(inputs, "cpu")
    assert moved.keys() == inputs.keys()
    for name, tensor in inputs.items():
        torch.testing.assert_close(moved[name], tensor, rtol=0, atol=0)


def test_a_logged_figure_is_the_mean_over_ranks(monkeypatch):
    other = torch.tensor([3.0, 7.0])
    monkeypatch.setattr(loop.dist, "all_reduce", lambda values: values.add_(other))
    monkeypatch.setattr(loop.dist, "get_world_size", lambda: 2)
    figures = {"loss": torch.tensor(1.0, requires_grad=True), "term": torch.tensor(2.0, dtype=torch.bfloat16)}
    assert mean_over_ranks(figures) == {"loss": 2.0, "term": 4.5}


@pytest.mark.parametrize(
    ("there", "step", "kept"),
    [
        ([10], 10, [10]),
        ([10, 20, 30], 30, [20, 30]),
        ([5, 9, 100], 100, [9, 100]),  # by number, not by name
        ([10, 20, 25, 30], 25, [20, 25]),  # 30 was being written when an earlier run died
    ],
)
def test_the_newest_two_checkpoints_are_kept(tmp_path, there, step, kept):
    for number in there:
        (tmp_path / f"step-{number}").mkdir()
        (tmp_path / f"step-{number}" / "part").write_text("")
    (tmp_path / "latest").write_text(f"step-{step}")
    prune_checkpoints(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["latest", *(f"step-{n}" for n in kept)])


@pytest.fixture
def alone(monkeypatch):
    """One rank without a process group."""
    monkeypatch.setattr(loop.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(loop.dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(loop.deepspeed, "init_distributed", lambda **options: None)
    monkeypatch.setattr(loop, "check_shared_storage", lambda work: None)


def test_epochs_come_from_the_recipe_and_text_fields_from_the_model(project, tiny_model, processor, alone, monkeypatch):
    """A fine-tune has fewer epochs than the stage, and reads the fields that its champion was trained on."""
    config, step = project("recipe", {}, {"epochs": 16})
    section = {**step.recipe.section, "stage1": {**step.recipe.section["stage1"], "epochs": 2}}
    processor.text_fields = ["genre", "title"]
    seen = []
    monkeypatch.setattr(loop, "_initial_model", lambda *_: (tiny_model(), processor))
    monkeypatch.setattr(loop, "_engine", lambda *_: None)
    monkeypatch.setattr(
        loop, "_run", lambda config, step, engine, schedule, songs, work: seen.append((schedule, songs))
    )
    monkeypatch.setattr(loop, "_save", lambda *_: None)
    loop.train(config, replace(step, recipe=replace(step.recipe, section=section)), Path("out"), Path("work"))
    ((schedule, songs),) = seen
    assert (schedule.epochs, schedule.total_steps) == (2, 6)
    assert songs._fields == ["genre", "title"]


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_forward_and_not_of_the_weights(
    project, tiny_model, songs, alone, monkeypatch, precision, dtype
):
    config, _ = project("precision", {"precision": precision}, {})
    handed = []
    monkeypatch.setattr(loop.deepspeed, "initialize", lambda **arguments: (handed.append(arguments), None))
    model = tiny_model()
    loop._engine(config, config.stage1, model, 10)
    seen = []
    model.audio_mlp.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    rows = torch.arange(3)[:, None]
    handed[0]["model"](songs.inputs(rows.flatten().numpy()), rows)
    assert seen == [dtype]
    assert "bf16" not in handed[0]["config"] and {p.dtype for p in model.parameters()} == {torch.float32}


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
    loop._engine(config, config.stage1, tiny_model(), 5)
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
