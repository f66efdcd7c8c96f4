"""The HTML report: one file that shows what a run did and how good its embeddings are."""

from pathlib import Path

from htcl.artifacts import ArtifactStore

REPORT_FILE = "report.html"
BRIDGE_FILE = "bridge.svg"


def report_path(workspace: str, key: str) -> Path:
    """Where a published report lies."""
    return ArtifactStore(workspace).fetch("report", key) / REPORT_FILE
