"""Which device a task computes on."""

import pytest
import torch

from htcl.embeddings.embedder import torch_device
from htcl.errors import HTCLError


@pytest.fixture
def gpus(monkeypatch):
    """Say how many GPUs torch sees."""
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_a_task_without_a_gpu_computes_on_the_cpu_though_the_host_has_some(gpus):
    gpus(4)
    assert torch_device([]) == "cpu"


def test_a_task_computes_on_the_first_gpu_that_it_was_given(gpus):
    gpus(4)
    assert torch_device(["3", "0"]) == "cuda:3"


@pytest.mark.parametrize(("seen", "address"), [(0, "0"), (2, "2"), (2, "GPU-5f1a")])
def test_a_gpu_that_torch_does_not_see_is_an_error(gpus, seen, address):
    gpus(seen)
    with pytest.raises(HTCLError, match=f"was given GPU '{address}', but torch .* sees {seen} here; install"):
        torch_device([address])
