"""The base size on a GPU: songs a second and the share of its arithmetic that is used (MFU)."""

from __future__ import annotations

import time
from typing import Any

import torch

from htcl.models import HTCLConfig, HTCLModel
from tests.benchmarks.setting import FULL_FRAMES
from tests.benchmarks.table import Line

SONGS, TOKENS = 64, 32
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 of the tensor cores, from the makers' data sheets."""


def figures(rounds: int) -> list[Line]:
    """bf16, with `torch.compile` and without; one line that says so where there is no GPU."""
    if not torch.cuda.is_available():
        return [Line("base size on a GPU: songs/s, MFU, bf16, torch.compile on and off", "–", "–", "–", "not measured")]
    rates = {compiled: _rate(compiled, rounds) for compiled in (False, True)}
    name = torch.cuda.get_device_name()
    peak = next((flops for key, flops in PEAK_FLOPS.items() if key in name), None)
    mfu = f", MFU {_flops_a_song() * rates[False] / peak:.0%}" if peak else ""
    what = f"base size, bf16, {SONGS} songs of {FULL_FRAMES} frames on {name}{mfu}: torch.compile against eager"
    relation = f"{rates[True] / rates[False]:.2f} x"
    return [Line(what, f"{rates[True]:.0f} songs/s", f"{rates[False]:.0f} songs/s", relation, "printed")]


def _rate(compiled: bool, rounds: int) -> float:
    model: Any = HTCLModel(HTCLConfig(stage=1)).cuda().train()
    embed = torch.compile(model) if compiled else model
    adam = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
    audio = torch.randn(SONGS, FULL_FRAMES, 128, device="cuda")
    text = torch.randint(5, 30_000, (SONGS, TOKENS), device="cuda")

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            found = embed(input_features=audio, input_ids=text)
        similar = found.audio_embedding.float() @ found.text_embedding.float().T
        torch.nn.functional.cross_entropy(similar, torch.arange(SONGS, device="cuda")).backward()
        adam.step()
        adam.zero_grad()

    for _ in range(3):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(rounds):
        step()
    torch.cuda.synchronize()
    return SONGS * rounds / (time.perf_counter() - start)


def _flops_a_song() -> float:
    """Forward and backward, counted on the meta device."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = HTCLModel(HTCLConfig(stage=1))
        audio, text = torch.randn(1, FULL_FRAMES, 128), torch.zeros(1, TOKENS, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        found = model(input_features=audio, input_ids=text)
        (found.audio_embedding.sum() + found.text_embedding.sum()).backward()
    return float(counter.get_total_flops())
