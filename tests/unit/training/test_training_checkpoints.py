"""Which checkpoint a run goes on from, and which are kept."""

import json

import pytest
import torch
from safetensors.torch import save_file

from htcl import storage
from htcl.training import checkpoints
from htcl.training.checkpoints import MANIFEST, find_checkpoint, prune_checkpoints


def write(folder, step, ranks=2):
    """A whole checkpoint, without an engine."""
    target = folder / f"step-{step}"
    target.mkdir()
    parts = []
    for rank in range(ranks):
        path = target / f"part-{rank}.safetensors"
        save_file({"weight/a": torch.full((3,), float(step))}, path)
        parts.append({"file": path.name, **checkpoints._digest(path)})
    (target / MANIFEST).write_text(json.dumps({"step": step, "parts": parts, "records": []}))
    return target


def damage_manifest(target):
    (target / MANIFEST).write_text('{"step": 1')


def damage_part(target):
    path = target / "part-1.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


DAMAGES = {
    "it was not finished": lambda target: (target / MANIFEST).unlink(),
    "manifest.json is damaged": damage_manifest,
    "part-1.safetensors is damaged": damage_part,
    "part-0.safetensors is missing": lambda target: (target / "part-0.safetensors").unlink(),
    "part-0.safetensors is damaged": lambda target: (target / "part-0.safetensors").write_bytes(b""),
}


@pytest.mark.parametrize("words", DAMAGES)
def test_a_checkpoint_that_is_not_whole_is_named_and_the_one_before_is_used(tmp_path, caplog, words):
    write(tmp_path, 5)
    write(tmp_path, 9)  # by number, not by name
    DAMAGES[words](write(tmp_path, 10))
    caplog.set_level("INFO", "htcl.training")
    assert find_checkpoint(str(tmp_path))["step"] == 9
    assert f"checkpoint of step 10 is not used: {words}" in caplog.text


def test_without_a_whole_checkpoint_the_run_begins_anew(tmp_path):
    assert find_checkpoint(str(tmp_path / "nothing")) is None
    (write(tmp_path, 3) / MANIFEST).unlink()
    assert find_checkpoint(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("there", "step", "kept"),
    [
        ([10], 10, [10]),
        ([10, 20, 30], 30, [20, 30]),
        ([5, 9, 100], 100, [9, 100]),  # by number, not by name
        ([10, 20, 25, 30], 25, [20, 25]),  # 30 was damaged, so that the run goes on from 25
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_the_newest_two_are_kept(tmp_path, there, step, kept, remote):
    folder = f"memory://{tmp_path.name}/checkpoints" if remote else str(tmp_path)
    for number in there:
        storage.write_bytes(storage.join(folder, f"step-{number}", MANIFEST), b"{}")
    for number in (7, 26):  # two that a crash left half-written
        storage.write_bytes(storage.join(folder, f"step-{number}", "part"), b"x")
    prune_checkpoints(folder, step)
    assert storage.list_folder(folder) == sorted(f"step-{number}" for number in kept)
