"""Training over real ranks: what they log, what they save, and that a broken run goes on to the same weights."""

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import s3fs
import torch
from moto.server import ThreadedMotoServer
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from htcl import processes
from htcl.artifacts import ArtifactStore
from htcl.config_file import save_config
from htcl.errors import HTCLError
from htcl.logs import parse_line
from htcl.models.untrained import new_stage1
from htcl.plan import plan
from htcl.shards.index import read_index
from htcl.storage import join
from htcl.training import METRICS_FILE, loop
from htcl.training.agent import EXIT_INTERRUPTED
from htcl.training.batches import Loader, Songs
from htcl.training.launch import run_stage
from htcl.training.loop import work_folder
from htcl.training.samples import stage1_samples
from htcl.training.schedule import Schedule
from htcl.training.step import SongEncoder, batch_loss
from tests.integration.harness import BIN, ROOT
from tests.unit.test_processes import await_end
from tests.unit.training.conftest import make_project

STEPS, EVERY = 60, 4
TRAINING = {"checkpoint_every_steps": EVERY}
STAGE1 = {"epochs": 20, "text_encoder_lr": 0.0, "dropout": 0.05, "lr_scheduler_type": "cosine", "warmup_ratio": 0.1}
HANGS = "(is silent|does not get on) for"
"""Of a rank that hangs: the former where it had got further since its last sign of life but one."""
PLAIN = {"ts", "level", "step", "msg"}


def trained(config, step):
    """Weights and metrics of a published stage."""
    folder = ArtifactStore(config.workspace).fetch("stage1", step.key)
    records = [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]
    return load_file(folder / "model.safetensors"), records


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Makes workspaces of the same key."""
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def whole(project):
    """A run of two ranks in float32 that nothing interrupted."""
    config, step = project("whole", TRAINING, STAGE1)
    run_stage(config, step, lambda line: None)
    return config, step


def kill_at(step, sign):
    """Acts on a run's lines: sends a signal to all its processes once it has logged a step."""

    def act(line):
        logged = parse_line(line)
        if logged and logged.message == "step" and int(logged.fields["global_step"]) == step:
            for pid in list(processes._live):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, sign)

    return act


def start_of(lines):
    (start,) = [line for line in map(parse_line, lines) if line and line.message == "training"]
    return int(start.fields["first_step"])


def first_loss(config, step):
    """The loss of the first step over the batches of two ranks, worked out in this process."""
    torch.manual_seed(config.training.seed)
    model, processor = new_stage1(config)
    model.train()
    for parameter in model.text_model.parameters():
        parameter.requires_grad_(False)
    store = ArtifactStore(config.workspace)
    index = read_index(store.fetch("shards", step.recipe.inputs["shards"]))
    catalog = store.fetch("catalog", step.recipe.inputs["catalog"])
    songs = Songs(join(config.workspace, "shards"), index, catalog, processor.text_fields, processor)
    schedule = Schedule(stage1_samples(index), config.stage1.global_batch_size, 1, config.training.seed)
    encoder, found = SongEncoder(model), []
    for rank in (0, 1):
        batch = next(Loader(schedule, songs, config.stage1, rank, 2).batches())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop.dist, "get_rank", lambda rank=rank: rank)
            loop.seed_micro_batch(config.training.seed, 0, 0)
        found.append(encoder(batch.micro_batches)[0])
    losses = []
    for rank in (0, 1):
        batch = next(Loader(schedule, songs, config.stage1, rank, 2).batches())
        losses.append(float(batch_loss(torch.cat(found), torch.cat(model.temperatures), batch, False)[0].detach()))
    return losses


def test_the_logged_loss_is_that_of_the_whole_batch(whole):
    losses = first_loss(*whole)
    assert trained(*whole)[1][0]["loss"] == pytest.approx(sum(losses) / 2, rel=1e-4)
    assert abs(losses[0] - losses[1]) > 0.01


def test_training_learns_and_logs_all_figures(whole):
    _, records = trained(*whole)
    losses = [record["loss"] for record in records]
    assert [record["global_step"] for record in records] == list(range(1, STEPS + 1))
    assert all(map(math.isfinite, losses)) and sum(losses[-10:]) < 0.8 * sum(losses[:10])
    wanted = {"loss", "audio_text", "tau", "lr_audio_encoder", "lr_heads", "grad_norm", "samples_per_second"}
    assert wanted | {"data_wait_share", "memory_mb", "eta_seconds"} <= records[0].keys()
    rates = [record["lr_heads"] for record in records]
    assert rates[0] == 0 and max(rates) == pytest.approx(1e-2) and rates[-1] < 1e-3


def test_tensorboard_and_mlflow_have_the_same_figures(whole):
    config, step = whole
    _, records = trained(config, step)
    folder = Path(config.workspace) / "tracking"
    events = EventAccumulator(str(folder / "tensorboard" / f"stage1-{step.key}"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, STEPS + 1))
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([record["loss"] for record in records])
    (metric,) = folder.glob("mlflow/*/*/metrics/loss")
    assert len(metric.read_text().splitlines()) == STEPS


def test_a_killed_run_with_a_damaged_checkpoint_goes_on_from_the_one_before_to_the_same_bits(whole, project):
    config, step = project("killed", TRAINING, STAGE1)
    assert step.key == whole[1].key
    with pytest.raises(HTCLError, match="exit code"):
        run_stage(config, step, kill_at(18, signal.SIGKILL))
    work = Path(work_folder(config, step))
    tags = [path.name for path in work.glob("checkpoints/step-*")]
    assert 0 < len(tags) <= 3, tags  # the newest two, and perhaps one that was being written
    whole_ones = work.glob("checkpoints/step-*/manifest.json")
    before, newest = sorted(int(path.parent.name.removeprefix("step-")) for path in whole_ones)[-2:]
    part = next(work.glob(f"checkpoints/step-{newest}/part-*"))
    data = bytearray(part.read_bytes())
    data[-100] ^= 1
    part.write_bytes(data)
    lines = []
    run_stage(config, step, lines.append)
    assert start_of(lines) == before
    assert any(f"checkpoint of step {newest} is not used: {part.name} is damaged" in line for line in lines)
    (weights, records), (expected, curve) = trained(config, step), trained(*whole)
    assert [record["loss"] for record in records] == [record["loss"] for record in curve]
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name
    assert not work.exists()


def test_sigterm_writes_a_checkpoint_at_once(whole, project):
    config, step = project("ended", {"checkpoint_every_steps": 1000}, STAGE1)
    lines = []

    def read(line):
        lines.append(line)
        kill_at(10, signal.SIGTERM)(line)

    with pytest.raises(HTCLError, match="stage1: interrupted"):
        run_stage(config, step, read)
    (said, *_) = [line.message for line in map(parse_line, lines) if line and "interrupted" in line.message]
    lines.clear()
    run_stage(config, step, lines.append)
    assert start_of(lines) >= 10 and f"after step {start_of(lines)} of {STEPS}" in said
    weights, expected = trained(config, step)[0], trained(*whole)[0]
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(("zero", "before", "after"), [(0, 2, 1), (1, 1, 2)])
def test_another_number_of_ranks_goes_on_with_the_same_samples(project, zero, before, after):
    """Without dropout, the steps that are left have the losses of a run that kept its ranks."""
    stage = {**STAGE1, "dropout": 0.0, "epochs": 10}
    settings = {"checkpoint_every_steps": 5, "zero_stage": zero, "processes": before}
    config, step = project(f"kept-{zero}", settings, stage)
    run_stage(config, step, lambda line: None)
    kept = [record["loss"] for record in trained(config, step)[1]]
    config, step = project(f"changed-{zero}", settings, stage)
    with pytest.raises(HTCLError):
        run_stage(config, step, kill_at(8, signal.SIGTERM))
    config = config.model_copy(update={"training": config.training.model_copy(update={"processes": after})})
    lines = []
    run_stage(config, step, lines.append)
    changed = [record["loss"] for record in trained(config, step)[1]]
    start = start_of(lines)
    assert 8 <= start < len(kept) == 30
    assert changed[start:] == pytest.approx(kept[start:], abs=1e-5)


def test_zero_changes_where_the_state_lies_and_not_what_comes_out(whole, project):
    """ZeRO 2 with activation checkpointing: near the run without, and resumed to the same bits."""
    settings = {**TRAINING, "zero_stage": 2, "activation_checkpointing": True}
    config, step = project("zero", settings, STAGE1)
    run_stage(config, step, lambda line: None)
    (weights, records), (expected, curve) = trained(config, step), trained(*whole)
    assert [r["loss"] for r in records] == pytest.approx([r["loss"] for r in curve], abs=2e-3)
    assert [r["grad_norm"] for r in records[:10]] == pytest.approx([r["grad_norm"] for r in curve[:10]], rel=1e-2)
    assert max(float((weights[name] - tensor).abs().max()) for name, tensor in expected.items()) < 2e-2
    config, step = project("zero-killed", settings, STAGE1)
    with pytest.raises(HTCLError):
        run_stage(config, step, kill_at(18, signal.SIGKILL))
    run_stage(config, step, lambda line: None)
    assert all(torch.equal(trained(config, step)[0][name], tensor) for name, tensor in weights.items())


def test_stage_2_goes_on_to_the_same_bits_with_every_source_of_chance(whole):
    """Killed in the middle: pairs, a text encoder that is trained, dropout in both passes of cached gradients."""
    recipe = {"epochs": 4, "dropout": 0.05, "text_encoder_lr": 1e-3, "popularity_correction": True}
    stage2 = whole[0].stage2.model_copy(update={**recipe, "text_field_dropout": 0.3, "time_mask_ratio": 0.1})
    training = whole[0].training.model_copy(update={"micro_batch_size": 2, "checkpoint_every_steps": 3})
    config = whole[0].model_copy(update={"stage2": stage2, "training": training})
    step, store = plan(config)["stage2"], ArtifactStore(config.workspace)
    with pytest.raises(HTCLError):
        run_stage(config, step, kill_at(7, signal.SIGKILL))
    lines = []
    run_stage(config, step, lines.append)
    start = start_of(lines)
    assert start > 0 and start % 3 == 0
    folder = store.fetch("stage2", step.key)
    resumed = load_file(folder / "model.safetensors")
    shutil.rmtree(folder)
    run_stage(config, step, lambda line: None)
    expected = load_file(store.fetch("stage2", step.key) / "model.safetensors")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in expected.items())


def test_bf16_has_float32_weights(project):
    config, step = project("bf16", {"precision": "bf16", "zero_stage": 1, "processes": 1}, STAGE1)
    run_stage(config, step, lambda line: None)
    weights, records = trained(config, step)
    losses = [record["loss"] for record in records]
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    rounded = [name for name, tensor in weights.items() if torch.equal(tensor.bfloat16().float(), tensor)]
    assert not [name for name in rounded if not name.startswith("text_model.")]


def start_rank(path, rank, port, environment):
    who = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return subprocess.Popen(
        [BIN / "htcl", "train", path, "stage1"],
        env={**environment, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in who.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_pod(path, port, environment):
    """The ranks of a pod of Kubernetes, by the script that its container runs."""
    place = {
        "NODES": "1",
        "RANKS_PER_NODE": "2",
        "JOB_COMPLETION_INDEX": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    command = ["bash", str(ROOT / "infra" / "k8s" / "train.sh"), str(path), "stage1"]
    return subprocess.Popen(
        command, env={**environment, **place}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_ranks_that_a_scheduler_placed_need_no_launcher(whole, project, environment):
    """Ended by SIGTERM they ask to be started again; then they go on, and what is done is not done again."""
    config, step = project("placed", TRAINING, STAGE1)
    path = save_config(config, Path(config.workspace) / "config.yaml")
    ranks = [start_rank(path, rank, 29611, environment) for rank in (0, 1)]
    end_at(ranks[0].stdout, 10, ranks[1])
    assert [rank.wait(120) for rank in ranks] == [EXIT_INTERRUPTED] * 2
    pod = start_pod(path, 29612, environment)
    printed = end_at(pod.stdout, 20, pod)
    assert pod.wait(120) == EXIT_INTERRUPTED, printed[-6000:]
    for port in (29613, 29614):  # the second finds everything done
        pod = start_pod(path, port, environment)
        printed, _ = pod.communicate(timeout=300)
        assert pod.returncode == 0, printed[-3000:]
    weights, expected = trained(config, step)[0], trained(*whole)[0]
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


def end_at(lines, step, process):
    """Read all lines, and give them; SIGTERM when one tells that a step is done."""
    printed = []
    for line in lines:
        printed.append(line)
        if f"global_step={step} " in line:
            process.terminate()
    return "".join(printed)


@pytest.fixture
def bucket(monkeypatch):
    """An empty bucket of an S3 that runs on this machine."""
    for name, value in (("KEY_ID", "test"), ("SECRET", "test")):
        monkeypatch.setenv({"KEY_ID": "AWS_ACCESS_KEY_ID", "SECRET": "AWS_SECRET_ACCESS_KEY"}[name], value)
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("music")
    yield "s3://music"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_checkpoints_on_object_storage_are_uploaded_by_every_rank(whole, project, bucket):
    config, step = project("s3", TRAINING, STAGE1)
    files = s3fs.S3FileSystem()
    files.put(f"{config.workspace}/", "music/workspace/", recursive=True)
    config = config.model_copy(update={"workspace": f"{bucket}/workspace"})
    with pytest.raises(HTCLError):
        run_stage(config, step, kill_at(18, signal.SIGKILL))
    folder = work_folder(config, step).removeprefix("s3://")
    newest = max(files.glob(f"{folder}/checkpoints/step-*/manifest.json"), key=lambda name: (len(name), name))
    names = {name.rsplit("/", 1)[1] for name in files.ls(newest.rsplit("/", 1)[0], detail=False)}
    assert names == {"manifest.json", "part-00000-of-00002.safetensors", "part-00001-of-00002.safetensors"}
    lines = []
    run_stage(config, step, lines.append)
    assert start_of(lines) >= 12 and start_of(lines) % EVERY == 0 and not files.exists(folder)
    weights, expected = trained(config, step)[0], trained(*whole)[0]
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert any("set training.tracking_folder" in line for line in lines)


def test_a_rank_that_dies_or_hangs_is_named_and_leaves_nothing_behind(project):
    config, step = project("dead", {"stall_seconds": 8}, STAGE1)
    for sign, words in ((signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGSTOP, HANGS)):
        pids = {}

        def read(line, sign=sign, pids=pids):
            logged = parse_line(line)
            if logged and logged.message == "step" and int(logged.fields["global_step"]) == 2 and not pids:
                pids.update(ranks_of(config))
                os.kill(pids[1], sign)

        with pytest.raises(HTCLError, match=rf"stage1: rank 1 on host {os.uname().nodename} {words}"):
            run_stage(config, step, read)
        assert len(pids) == 2 and await_end(pids.values(), 10) == []


def ranks_of(config):
    """Process ids of the ranks that this process has started, by rank."""
    found = {}
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            values = dict(item.split("=", 1) for item in environment.read_text().split("\0") if "=" in item)
            words = (environment.parent / "cmdline").read_text()
            ours = (environment.parent / "stat").read_text().split()[5]
            if "htcl.training.worker" in words and int(ours) in processes._live:
                found[int(values["RANK"])] = int(environment.parent.name)
    return found


def test_a_global_batch_of_1024_takes_the_memory_of_micro_batch_16(tmp_path_factory):
    """On two ranks, against the same batch at once and against a batch of 32, which is 16 songs a rank."""
    tracks = [f"T{number:04d}" for number in range(1024)]
    project = make_project(tmp_path_factory.mktemp("large"), tracks=tracks, frames=600)
    taken = {}
    for name, micro, batch in (("cached", 16, 1024), ("at once", None, 1024), ("small", None, 32)):
        stage = {**STAGE1, "epochs": 2 if batch == 1024 else 1, "global_batch_size": batch}
        config, step = project(name, {"micro_batch_size": micro}, stage)
        run_stage(config, step, lambda line: None)
        taken[name] = trained(config, step)[1][-1]["memory_mb"]
    print(f"peak memory of rank 0, MB: {taken}")
    assert taken["cached"] - taken["small"] < 0.25 * (taken["at once"] - taken["small"])
