"""Training over real ranks: what they log, what they save, and that a killed run goes on."""

import contextlib
import json
import math
import os
import signal
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
from htcl.training import launch, loop
from htcl.training.card import METRICS_FILE
from htcl.training.data import Schedule, Songs, stage1_samples
from htcl.training.launch import run_stage
from htcl.training.losses import stage1_loss
from htcl.training.stages import new_stage1
from tests.unit.training.conftest import make_project


def trained(config, step):
    """Weights and metrics of a published stage."""
    folder = ArtifactStore(config.workspace).fetch("stage1", step.key)
    records = [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]
    return load_file(folder / "model.safetensors"), records


TRAINING = {"precision": "bf16", "zero_stage": 2, "checkpoint_every_steps": 4}
STAGE1 = {"epochs": 20, "text_encoder_lr": 0.0, "dropout": 0.02, "lr_scheduler_type": "cosine", "warmup_ratio": 0.1}
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


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_weights(whole, monkeypatch):
    project, finished, step = whole
    config, again = project("killed", TRAINING, STAGE1)
    ports, free_port = [], launch._free_port
    monkeypatch.setattr(launch, "_free_port", lambda: ports.append(free_port()) or ports[-1])
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
    # Nor do the ranks, killed or not, leave the buffers of their collectives in memory.
    assert len(ports) == 2
    assert not [path for port in ports for path in Path("/dev/shm").glob(f"deepspeed_*_{port}_*")]
