"""Every night: new songs with the champion first, then a fine-tune that has to pass the gate."""

from __future__ import annotations

from prefect import flow
from prefect.states import Completed, State

from flows.graph import SERVED, gate_and_publish, make, publish
from flows.run import Run, working
from flows.script import run_as_script
from flows.settings import Settings
from flows.steps import failed
from htcl.artifacts import ArtifactStore
from htcl.champion import require_champion
from htcl.errors import HTCLError
from htcl.publish import UNCHANGED, Keys


@flow(name="htcl")
def nightly_finetune(config: str, settings: Settings = Settings()) -> State:  # noqa: B008  (it never changes)
    """Embed and publish new songs, then fine-tune stage 2 on the newest log and gate it.

    Args:
        config: Path of the pipeline configuration (YAML) on the worker.
        settings: Settings laid over it for this run.

    Returns:
        Completed, with the artifact keys of the candidate by step and what came of it as its message; or failed.
    """
    try:
        with working(config, settings, "nightly-finetune") as run:
            keys, songs = _publish_new_songs(run)
            outcome = _fine_tune(run, keys, require_champion(run.config.workspace).stage2)
            if not songs.startswith(UNCHANGED):
                outcome += f"; new songs: {songs}"
            return Completed(message=outcome, data=keys)
    except HTCLError as error:
        return failed(error)


def _publish_new_songs(run: Run) -> tuple[Keys, str]:
    """Embed the songs of today with the champion and publish them: they do not wait for a new model.

    Returns:
        Keys of catalog and shards, and what came of it, in a sentence.
    """
    champion = require_champion(run.config.workspace)
    keys = make(run, ("catalog", "shards", *SERVED), champion.stage2, fine_tune=False)
    published = {**keys, "stage2": champion.stage2, "evaluation": champion.evaluation}
    outcome = publish(run, published, champion, "new songs, the same model")
    return {name: keys[name] for name in ("catalog", "shards")}, outcome


def _fine_tune(run: Run, keys: Keys, champion: str) -> str:
    """Tune the champion on the pairs of today, unless it was trained on the very same; what came of it, in a sentence.

    Args:
        run: the flow run.
        keys: of catalog and shards; those of the candidate are added.
        champion: its stage-2 key.
    """
    keys |= make(run, ["pairs"], champion)
    known = ArtifactStore(run.config.workspace).manifest("stage2", champion)["inputs"]["pairs"]
    if keys["pairs"] == known:
        return f"{UNCHANGED}: champion {champion} was trained on the pairs of today"
    keys |= make(run, ("stage2", "gate_set", "evaluation"), champion)
    return gate_and_publish(run, keys, champion)


if __name__ == "__main__":
    run_as_script(nightly_finetune)
