"""The loop over real ranks: what they log, what they save, and that a killed run goes on."""

import contextlib
import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from htcl import processes
from htcl.artifacts import ArtifactStore
from htcl.errors import HTCLError
from htcl.logs import parse_line
from htcl.shards.index import read_index
from htcl.storage import join
from htcl.training import loop
from htcl.training.card import METRICS_FILE
from htcl.training.data import Schedule, Songs, stage1_samples
from htcl.training.launch import run_stage
from htcl.training.loop import mean_over_ranks, prune_checkpoints, to_device
from htcl.training.losses import stage1_loss
from htcl.training.stages import new_stage1

from .conftest import make_project


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
    loop._engine(config, config.stage1, model)
    seen = []
    model.audio_mlp.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    rows = torch.arange(3)[:, None]
    handed[0]["model"](songs.inputs(rows.flatten().numpy()), rows)
    assert seen == [dtype]
    assert "bf16" not in handed[0]["config"] and {p.dtype for p in model.parameters()} == {torch.float32}


def trained(config, step):
    """Weights and metrics of a published stage."""
    folder = ArtifactStore(config.workspace).fetch("stage1", step.key)
    records = [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]
    return load_file(folder / "model.safetensors"), records


TRAINING = {"precision": "bf16", "zero_stage": 2, "checkpoint_every_steps": 4}
STAGE1 = {"epochs": 20, "text_encoder_lr": 0.0, "dropout": 0.02}
STEPS = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two ranks that nothing interrupted, and what makes another of the same key."""
    project = make_project(tmp_path_factory.mktemp("project"))
    config, step = project("whole", TRAINING, STAGE1)
    run_stage(config, step, lambda line: None)
    return project, config, step


def first_loss(config, step, ranks):
    """The loss of the first step over the batches of some ranks, worked out in this process."""
    torch.manual_seed(config.training.seed)
    model, processor = new_stage1(config)
    model.text_model.train(False)  # as it is frozen
    store = ArtifactStore(config.workspace)
    index = read_index(store.fetch("shards", step.recipe.inputs["shards"]))
    catalog = store.fetch("catalog", step.recipe.inputs["catalog"])
    songs = Songs(join(config.workspace, "shards"), index, catalog, processor.text_fields, processor)
    found = []
    for rank in ranks:
        schedule = Schedule(stage1_samples(index), config.stage1.global_batch_size, 1, config.training.seed, rank, 2)
        _, rows = next(schedule.songs(0))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop.dist, "get_rank", lambda rank=rank: rank)
            loop._seed_step(config.training.seed, 0)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            output = model(**songs.inputs(rows.ravel()))
        found.append((output.audio_embedding, output.text_embedding))
    audio, text = (torch.cat(parts) for parts in zip(*found, strict=True))
    return float(stage1_loss(audio, text, model.temperatures[0])[0].detach())


def test_two_ranks_train_in_bf16_with_float32_weights(whole):
    _, config, step = whole
    weights, records = trained(config, step)
    losses = [record["loss"] for record in records]
    assert len(losses) == STEPS and all(map(math.isfinite, losses))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    rounded = [name for name, tensor in weights.items() if torch.equal(tensor.bfloat16().float(), tensor)]
    assert not [name for name in rounded if not name.startswith("text_model.")]


def test_the_logged_loss_is_that_of_the_whole_batch(whole):
    _, config, step = whole
    logged = trained(config, step)[1][0]["loss"]
    assert logged == pytest.approx(first_loss(config, step, [0, 1]), rel=1e-4)
    assert abs(logged - first_loss(config, step, [0])) > 0.1


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_weights(whole):
    project, finished, step = whole
    config, again = project("killed", TRAINING, STAGE1)
    assert again.key == step.key

    def kill(line):
        logged = parse_line(line)
        if logged and int(logged.fields.get("global_step", 0)) >= 18:
            for pid in list(processes._live):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

    with pytest.raises(HTCLError, match="exit code -9"):
        run_stage(config, step, kill)
    tags = [path.name for path in Path(config.workspace).glob("training/*/checkpoints/step-*")]
    assert 0 < len(tags) <= 3, tags  # the newest two, and perhaps one that was being written

    lines = []
    run_stage(config, step, lines.append)
    (start,) = [line for line in map(parse_line, lines) if line and line.message == "training"]
    assert int(start.fields["first_step"]) >= 16
    (weights, records), (expected, curve) = trained(config, step), trained(finished, step)
    assert [record["global_step"] for record in records] == list(range(1, STEPS + 1))
    assert [record["loss"] for record in records] == pytest.approx([record["loss"] for record in curve], rel=1e-5)
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-6, atol=1e-7)
