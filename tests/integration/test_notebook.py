"""The notebook of the docs runs on a finished run, in a kernel of its own."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbclient
import pytest

from .harness import ROOT, Run


def test_the_notebook_embeds_searches_and_plots(demo_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "demo").symlink_to(demo_run.path.parent)
    notebook = jupytext.read(ROOT / "docs" / "songs.py")
    (world,) = demo_run.path.parent.glob("world-*")
    for cell in notebook.cells:
        cell.source = cell.source.replace("world-600-7", world.name)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("text/html" in data for data in shown) == 3
    assert any("image/png" in data for data in shown)
