"""The gradient of a batch is the same on one, two and four real ranks, and with cached gradients under DeepSpeed."""

import os
from pathlib import Path

import deepspeed
import numpy as np
import pytest
import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_grad

from htcl.config import Stage2Config, StageConfig
from htcl.shards.index import read_index
from htcl.training.batches import Loader, Songs
from htcl.training.samples import KnownPairs, Samples
from htcl.training.schedule import Schedule
from htcl.training.stages import set_dropout
from htcl.training.step import SongEncoder, batch_loss, forward_backward
from tests.unit.training.conftest import make_model, make_processor, make_world

RANKS, BATCH = 4, 8
# Song 0 stands in five pairs, 1 and 2 are versions of one work, and the known pairs lie unevenly over the ranks.
PAIRS = [[0, 3], [0, 4], [0, 5], [1, 0], [2, 0], [6, 7], [8, 9], [10, 11]]
KNOWN = [[0, 3], [0, 4], [0, 5], [0, 1], [3, 6], [3, 8], [4, 10], [5, 11]]


def loader_of(folder, stage, rank, ranks, micro=None, parity=False):
    index = read_index(folder)
    frames = np.asarray(index["frames"]).astype(np.int32)
    groups = np.arange(len(frames), dtype=np.int32)
    groups[2] = 1
    pairs = np.array(PAIRS) if stage == 2 else np.arange(BATCH)[:, None]
    known = KnownPairs.of(np.array(KNOWN), len(frames)) if stage == 2 else None
    samples = Samples(pairs, np.zeros(len(pairs), np.int64), frames, groups, known)
    processor = make_processor()
    processor.reference_parity = parity
    songs = Songs(str(folder / "shards"), index, folder, ["title", "tags"], processor)
    recipe = Stage2Config(popularity_correction=True) if stage == 2 else StageConfig()
    return Loader(Schedule(samples, BATCH, 1, 0), songs, recipe, rank, ranks, micro, parity)


def model_of(stage, dropout=0.0, parity=False):
    model = make_model(stage, reference_parity=parity)
    set_dropout(model, dropout)
    for module in model.text_model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    model.text_model.embeddings.dropout.p = dropout
    with torch.no_grad():
        for number, temperature in enumerate(model.temperatures):
            temperature.fill_(2.0 + number)
    return model.train()


def gradients(folder, stage, rank, ranks, parity=False):
    """Loss and gradient of every parameter for this rank's part of the batch."""
    model = model_of(stage, parity=parity)
    batch = next(loader_of(folder, stage, rank, ranks, parity=parity).batches())
    loss, _ = batch_loss(*SongEncoder(model)(batch.micro_batches), batch, parity)
    loss.backward()
    return {"loss": loss.detach(), **{name: parameter.grad for name, parameter in model.named_parameters()}}


def assert_close(found, whole, tolerance):
    """Relative to the greatest gradient: that of a key's bias is zero but for rounding."""
    greatest = max(float(value.abs().max()) for value in whole.values())
    assert greatest > 0.1
    for name, value in whole.items():
        deviation = float((found[name] - value).abs().max())
        assert deviation <= tolerance * max(1.0, greatest), f"{name}: {deviation:.1e}"


def mean_gradients(folder, stage, rank, ranks, parity=False):
    found = gradients(folder, stage, rank, ranks, parity)
    for value in found.values():
        dist.all_reduce(value)
    return {name: value / ranks for name, value in found.items()}


def compare(rank, ranks, folder):
    for stage in (1, 2):
        whole = torch.load(folder / f"whole-{stage}.pt")
        assert_close(mean_gradients(folder, stage, rank, ranks), whole, 1e-6)
        # The authors gather without gradient: a share of the true one for the weights, all of it for temperatures.
        found = mean_gradients(folder, stage, rank, ranks, parity=True)
        shares = {name: 1.0 if name.startswith(("tau", "loss")) else ranks for name in found}
        found = {name: value * shares[name] for name, value in found.items()}
        assert_close(found, torch.load(folder / f"parity-{stage}.pt"), 1e-6)


def cached_gradients(rank, ranks, folder, zero_stage):
    """Micro-batches of one or two songs through a real engine, against the direct computation of one process."""
    for stage, micro in ((1, 1), (2, 2)):
        encoder = SongEncoder(model_of(stage))
        optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
        settings = {
            "train_batch_size": BATCH,
            "train_micro_batch_size_per_gpu": BATCH // ranks,
            "zero_optimization": {"stage": zero_stage},
            "zero_allow_untested_optimizer": True,
        }
        engine, *_ = deepspeed.initialize(model=encoder, optimizer=optimizer, config=settings)
        batch = next(loader_of(folder, stage, rank, ranks, micro).batches())
        assert len(batch.micro_batches) > 1
        forward_backward(engine, batch, True, lambda part: None, lambda phase, part: None)
        found = {name.removeprefix("model."): safe_get_full_grad(p) for name, p in encoder.named_parameters()}
        whole = torch.load(folder / f"whole-{stage}.pt")
        del whole["loss"]
        assert_close(found, whole, 1e-5)
        engine.destroy()


def run_rank(rank, folder):
    folder = Path(folder)
    torch.set_num_threads(1)
    for ranks in (RANKS, 2):
        if rank >= ranks:
            return
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "DS_ACCELERATOR": "cpu"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
        store = f"file://{folder}/store-{ranks}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
        compare(rank, ranks, folder)
        if ranks == 2:
            deepspeed.init_distributed(verbose=False)
            for zero_stage in (0, 1, 2):
                cached_gradients(rank, ranks, folder, zero_stage)
        dist.destroy_process_group()


def test_ranks_and_cached_gradients_change_nothing(tmp_path):
    """Every rank compares for itself (`compare`, `cached_gradients`); where one finds a difference, spawn raises."""
    make_world(tmp_path)
    for stage in (1, 2):
        torch.save(gradients(tmp_path, stage, 0, 1), tmp_path / f"whole-{stage}.pt")
        torch.save(gradients(tmp_path, stage, 0, 1, parity=True), tmp_path / f"parity-{stage}.pt")
    torch.multiprocessing.spawn(run_rank, (str(tmp_path),), nprocs=RANKS)


class Recorded(SongEncoder):
    """Remembers the embeddings of each pass."""

    def __init__(self, model):
        super().__init__(model)
        self.seen = {False: [], True: []}

    def forward(self, micro_batches):
        embeddings, scales = super().forward(micro_batches)
        self.seen[torch.is_grad_enabled()].append(embeddings.detach())
        return embeddings, scales


class PlainEngine:
    """What `forward_backward` needs of an engine, on one process without DeepSpeed."""

    def __init__(self, module):
        self.module = module

    def __call__(self, micro_batches):
        return self.module(micro_batches)

    def set_gradient_accumulation_boundary(self, last):
        self.last = last

    def backward(self, loss):
        loss.backward()


@pytest.mark.parametrize("stage", [1, 2])
def test_both_passes_of_cached_gradients_drop_out_alike(tmp_path, stage):
    make_world(tmp_path)
    encoder = Recorded(model_of(stage, dropout=0.3))
    batch = next(loader_of(tmp_path, stage, 0, 1, micro=3).batches())
    engine = PlainEngine(encoder)
    forward_backward(engine, batch, True, torch.manual_seed, lambda phase, part: None)
    first, second = encoder.seen[False], encoder.seen[True]
    assert len(first) == len(second) == len(batch.micro_batches) > 1 and engine.last
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    torch.manual_seed(99)
    assert not torch.allclose(encoder([batch.micro_batches[0]])[0], first[0], atol=1e-3)
