"""The published set: one pointer file names model, embeddings, index and evaluation together."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.errors import HTCLError


@dataclass(frozen=True)
class Champion:
    """Artifact keys of the set that readers see; they change together or not at all."""

    catalog: str
    shards: str
    stage2: str
    embeddings: str
    index: str
    evaluation: str
    since: str


def read_champion(workspace: str) -> Champion | None:
    """The published set, or None before the first."""
    uri = _uri(workspace)
    if not storage.exists(uri):
        return None
    try:
        return Champion(**json.loads(storage.read_bytes(uri)))
    except (ValueError, TypeError):
        raise HTCLError(f"{uri} is damaged; delete it and run the pipeline again") from None


def require_champion(workspace: str) -> Champion:
    """The published set.

    Raises:
        HTCLError: when nothing is published yet.
    """
    champion = read_champion(workspace)
    if champion is None:
        raise HTCLError(f"nothing is published in {workspace} yet; run `htcl run CONFIG` (or `htcl demo`) first")
    return champion


def switch_champion(workspace: str, keys: dict[str, str]) -> Champion:
    """Point readers to another set, in one atomic write."""
    champion = Champion(**keys, since=datetime.now(UTC).isoformat(timespec="seconds"))
    storage.write_bytes(_uri(workspace), json.dumps(asdict(champion), indent=1).encode())
    return champion


def ancestors(store: ArtifactStore, model_id: str) -> list[str]:
    """The champions that a stage-2 model was fine-tuned from, newest first."""
    found: list[str] = []
    while store.published("stage2", model_id):
        parent = store.manifest("stage2", model_id)["inputs"].get("champion")
        if parent is None:
            break
        found.append(parent)
        model_id = parent
    return found


def _uri(workspace: str) -> str:
    return storage.join(workspace, "published", "champion.json")
