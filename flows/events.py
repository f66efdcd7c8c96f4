"""Events of our own, for automations: what no state of a flow run says."""

from __future__ import annotations

from prefect.events import emit_event

from htcl.config import PipelineConfig
from htcl.publish import Keys

GATE_REFUSED = "htcl.gate.refused"
PUBLISHED = "htcl.published"


def emit_gate_refused(config: PipelineConfig, model: str, reasons: list[str]) -> None:
    """Say that a candidate did not become champion, though its run succeeded."""
    emit_event(GATE_REFUSED, _resource(config), payload={"model": model, "reasons": reasons})


def emit_published(config: PipelineConfig, keys: Keys) -> None:
    """Say that readers see another set."""
    emit_event(PUBLISHED, _resource(config), payload={"keys": keys})


def _resource(config: PipelineConfig) -> dict[str, str]:
    return {"prefect.resource.id": f"htcl.workspace.{config.workspace}", "prefect.resource.name": config.name}
