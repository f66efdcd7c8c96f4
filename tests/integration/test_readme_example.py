"""The Python that the README shows runs as it stands there."""

import shutil
from pathlib import Path

import pytest
import torch

from htcl.artifacts import ArtifactStore
from htcl.champion import require_champion
from tests.integration.harness import Run
from tests.unit.test_readme import blocks


def run_block(word: str, changes: dict[str, str]) -> dict[str, object]:
    (code,) = [block for block in blocks("python") if word in block]
    for old, new in changes.items():
        assert old in code
        code = code.replace(old, new)
    names: dict[str, object] = {}
    exec(code, names)
    return names


def test_five_lines_embed_files_and_texts(demo_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = demo_run.config.workspace
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "model").symlink_to(ArtifactStore(workspace).fetch("stage2", require_champion(workspace).stage2))
    files = sorted(demo_run.path.parent.glob("world-*/audio/*/*.*"))[:2]
    for file, name in zip(files, ("one.flac", "two.mp3"), strict=True):
        shutil.copy(file, tmp_path / name)  # what a file is, its bytes say
    monkeypatch.chdir(tmp_path)
    found = run_block("decode_audio", {})
    for view in ("audio", "text"):
        embeddings = found[view]
        assert isinstance(embeddings, torch.Tensor)
        assert embeddings.shape == (2, 100) and torch.isfinite(embeddings).all()
        assert not torch.allclose(embeddings[0], embeddings[1])


def test_any_engine_reads_the_embeddings(demo_run: Run) -> None:
    songs = run_block("DeltaTable", {"workspace/demo": str(demo_run.path.parent)})["songs"]
    assert len(songs) == len(set(songs["track_id"])) > 50  # type: ignore[call-overload,arg-type,index]
