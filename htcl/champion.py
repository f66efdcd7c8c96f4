"""The published set: the newest entry of a log names model, embeddings, index and evaluation together.

An entry is a file that is created once and never changed, `published/champion/00000003.json`. Of two writers that built
on the same entry one succeeds, a reader sees the old or the new set and never a mix, and what was published before is
written down.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from htcl import storage
from htcl.artifacts import ArtifactStore
from htcl.errors import HTCLError, OvertakenError, PassingError
from htcl.logs import get_logger, log_warning
from htcl.numbered import numbered_files, numbered_uri

SET = ("catalog", "shards", "stage2", "embeddings", "index", "evaluation")
"""Kinds of the artifacts that a published set names."""


@dataclass(frozen=True)
class Champion:
    """Artifact keys of a set that readers see, or saw; they change together or not at all.

    Attributes:
        since: when it was switched to, ISO 8601.
        number: of the entry in the log.
        origin: number of the entry in which this set was first published; another one after a rollback.
        why: what made it the champion, in a sentence.
        withdrawn: stage-2 keys that were rolled back from: no run publishes them again, only `htcl promote`.
    """

    catalog: str
    shards: str
    stage2: str
    embeddings: str
    index: str
    evaluation: str
    since: str
    number: int
    origin: int
    why: str
    withdrawn: tuple[str, ...]

    @property
    def keys(self) -> dict[str, str]:
        """Artifact keys by kind."""
        return {kind: getattr(self, kind) for kind in SET}


def read_champion(workspace: str) -> Champion | None:
    """The published set, or None before the first.

    Raises:
        HTCLError: when the newest entry is damaged.
    """
    numbers = _numbers(workspace)
    return _read(workspace, numbers[-1]) if numbers else None


def require_champion(workspace: str) -> Champion:
    """The published set.

    Raises:
        HTCLError: when nothing is published yet.
    """
    champion = read_champion(workspace)
    if champion is None:
        raise HTCLError(f"nothing is published in {workspace} yet; run `htcl run CONFIG` (or `htcl demo`) first")
    return champion


def past_champions(workspace: str) -> list[Champion]:
    """Every set that was published, newest first; the first of them is what readers see.

    Raises:
        HTCLError: when the newest entry is damaged; older ones that are do no harm.
    """
    found = []
    for place, number in enumerate(reversed(_numbers(workspace))):
        try:
            found.append(_read(workspace, number))
        except HTCLError as error:
            if not place or isinstance(error, PassingError):
                raise
            log_warning(get_logger("champion"), str(error))
    return found


def switch_champion(workspace: str, keys: Mapping[str, str], why: str, base: Champion | None) -> Champion:
    """Point readers to another set, in one atomic write; a model that was withdrawn is not so any more.

    Args:
        workspace: of the sets.
        keys: artifact keys by kind, all of `SET`.
        why: what is written down as the reason.
        base: the champion that this switch was decided upon.

    Raises:
        OvertakenError: when the champion is not the base any more.
    """
    withdrawn = [model for model in base.withdrawn if model != keys["stage2"]] if base else []
    return _append(workspace, keys, why, base, withdrawn, None)


def rollback_champion(workspace: str) -> Champion:
    """Switch back to the set before that is still whole; where it has another model, no run publishes today's again.

    Raises:
        HTCLError: when there is no such set.
        OvertakenError: when somebody else switched meanwhile.
    """
    past = past_champions(workspace)
    now = before = past[0] if past else None
    store = ArtifactStore(workspace)
    while before is not None and now is not None and (before.keys == now.keys or not _is_whole(store, before)):
        before = next((entry for entry in past if entry.number < before.origin), None)
    if now is None or before is None:
        raise HTCLError(
            f"no other set that is still there was published in {workspace} before this one; there is nothing to go "
            "back to"
        )
    withdrawn = set(now.withdrawn) - {before.stage2}
    if now.stage2 != before.stage2:
        withdrawn.add(now.stage2)
    why = f"rolled back from set {now.number} to set {before.number}"
    champion = _append(workspace, before.keys, why, now, sorted(withdrawn), before.origin)
    if not _is_whole(store, champion):
        raise HTCLError(f"garbage collection has just taken set {before.number}; roll back again")
    return champion


def ancestors(store: ArtifactStore, model_id: str) -> list[str]:
    """The champions that a stage-2 model was fine-tuned from, newest first."""
    found: list[str] = []
    while (manifest := store.lineage("stage2", model_id)) is not None:
        parent = manifest["inputs"].get("champion")
        if parent is None:
            break
        found.append(parent)
        model_id = parent
    return found


def _is_whole(store: ArtifactStore, champion: Champion) -> bool:
    """Whether garbage collection has left all artifacts of a set."""
    return all(store.published(kind, key) for kind, key in champion.keys.items())


def _append(
    workspace: str,
    keys: Mapping[str, str],
    why: str,
    base: Champion | None,
    withdrawn: Sequence[str],
    origin: int | None,
) -> Champion:
    number = base.number + 1 if base else 1
    since = datetime.now(UTC).isoformat(timespec="seconds")
    champion = Champion(
        **keys, since=since, number=number, origin=origin or number, why=why, withdrawn=tuple(withdrawn)
    )
    uri, written = _uri(workspace, number), json.dumps(asdict(champion), indent=1).encode()
    # It may be ours that is there: where storage's answer was lost, it was sent again.
    if not storage.create_bytes(uri, written) and replace(_read(workspace, number), since=since) != champion:
        raise OvertakenError(
            f"somebody switched the champion of {workspace} meanwhile; run again to compare with the new one"
        )
    return champion


def _numbers(workspace: str) -> list[int]:
    return numbered_files(_folder(workspace))


def _read(workspace: str, number: int) -> Champion:
    uri = _uri(workspace, number)
    try:
        values = json.loads(storage.read_bytes(uri))
        return Champion(**{**values, "withdrawn": tuple(values["withdrawn"])})
    except (ValueError, TypeError, KeyError):
        raise HTCLError(f"{uri} is damaged; delete it, and the set before it counts again") from None


def _uri(workspace: str, number: int) -> str:
    return numbered_uri(_folder(workspace), number)


def _folder(workspace: str) -> str:
    return storage.join(workspace, "published", "champion")
