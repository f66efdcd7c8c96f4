"""The command `htcl`."""

from __future__ import annotations

import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from htcl.config import PipelineConfig
from htcl.config_file import load_config
from htcl.errors import HTCLError
from htcl.flow_process import run_flow

app = typer.Typer(
    help="Song embeddings that know what a song is and who will like it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


datasets = typer.Typer(help="Public music data sets as a catalog and a log.", no_args_is_help=True)
app.add_typer(datasets, name="datasets")


class Stage(StrEnum):
    """The stages of training."""

    STAGE1 = "stage1"
    STAGE2 = "stage2"


DEMO_ROOT = Path("workspace/demo")
CONFIG_VARIABLE = "HTCL_CONFIG"
GC = "gc"
"""What the lease says of garbage collection."""

ConfigArgument = Annotated[Path, typer.Argument(help="pipeline configuration (YAML)", metavar="CONFIG")]
SetOption = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="override a setting")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="configuration; else $HTCL_CONFIG, ./htcl.yaml or the demo's")
]
CountOption = Annotated[int, typer.Option("-k", min=1, help="how many songs")]


@app.command()
def demo(
    root: Annotated[Path, typer.Option(help="project folder of the demo")] = DEMO_ROOT,
    songs: Annotated[int, typer.Option(help="size of the generated world")] = 600,
    seed: Annotated[int, typer.Option(help="of the generated world")] = 7,
    run_it: Annotated[bool, typer.Option("--run/--no-run", help="run the pipeline, or only make the world")] = True,
) -> None:
    """Generate a small world of songs and listeners and run the whole pipeline on it."""
    from htcl.demo.project import prepare_demo
    from htcl.logs import Progress, get_logger, setup_logging

    setup_logging()
    bars: dict[str, Progress] = {}

    def report(phase: str, done: int, total: int) -> None:
        bars.setdefault(phase, Progress(get_logger("demo"), phase, total)).update(done)

    path, summary = prepare_demo(root, songs, seed, report)
    made = "is there already" if summary.reused else "generated"
    typer.echo(
        f"world of {summary.songs} songs, {summary.listeners} listeners and {summary.events} events {made}: {path}"
    )
    if run_it:
        _run(path, [])


@app.command()
def run(config: ConfigArgument, override: SetOption = []) -> None:  # noqa: B006  (typer copies it)
    """Run the whole pipeline; steps whose inputs and settings did not change are skipped."""
    _run(config, override)


@app.command()
def train(
    config: ConfigArgument,
    stage: Annotated[Stage, typer.Argument(help="what to train")],
    override: SetOption = [],  # noqa: B006
) -> None:
    """Train a stage as one rank that a scheduler has placed (Slurm, Kubernetes), by RANK, WORLD_SIZE, MASTER_ADDR.

    Ends with code 75 after SIGTERM: what is done is in a checkpoint, and the job wants to be started again.
    """
    from htcl.logs import setup_logging
    from htcl.training.worker import train_as_rank

    setup_logging()
    sys.exit(train_as_rank(load_config(config, override), stage.value))


@app.command()
def status(config: ConfigArgument, override: SetOption = []) -> None:  # noqa: B006
    """Show which artifacts are there and why a step would run."""
    from htcl.show import show_status

    show_status(load_config(config, override))


@app.command()
def results(config: ConfigArgument, override: SetOption = []) -> None:  # noqa: B006
    """Print every figure of the last run with its interval, as a Markdown table."""
    from htcl.show import show_results

    show_results(load_config(config, override))


@app.command()
def evaluate(
    configs: Annotated[list[Path], typer.Argument(help="pipeline configurations that were run", metavar="CONFIG...")],
    seeds: Annotated[int, typer.Option(min=1, help="trainings of each, from training.seed on")] = 1,
    variants: Annotated[bool, typer.Option("--variants", help="also train every variant of the recipe")] = False,
    override: SetOption = [],  # noqa: B006
) -> None:
    """Make the report card: both stages, their variants and all competitors on the same held-out songs and listeners.

    Several configurations and seeds are pooled; what is trained and asked already is not done again.
    """
    from htcl.artifacts import ArtifactStore
    from htcl.logs import quiet_libraries, setup_logging
    from htcl.report.build import report_with_card
    from htcl.report_card.evaluate import evaluate as make_card
    from htcl.report_card.show import card_markdown

    setup_logging()
    quiet_libraries()
    loaded = [load_config(config, override) for config in configs]
    card, key = make_card(loaded, seeds, variants)
    typer.echo(card_markdown(card))
    typer.echo(f"records: {ArtifactStore(loaded[0].workspace).fetch('report_card', key) / 'records'}")
    if page := report_with_card(loaded[0], key):
        typer.echo(f"report: {page}")


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="words that describe a song")],
    k: CountOption = 10,
    config: ConfigOption = None,
) -> None:
    """Find songs for words."""
    from htcl.logs import quiet_libraries
    from htcl.search.query import PublishedSongs
    from htcl.show import show_found

    quiet_libraries()
    show_found(f'songs for "{query}"', PublishedSongs(_default_config(config).workspace).search(query, k))


@app.command()
def similar(
    track_id: Annotated[str, typer.Argument(help="a song of the catalog", metavar="TRACK_ID")],
    k: CountOption = 10,
    config: ConfigOption = None,
) -> None:
    """Find songs that the same listeners will like."""
    from htcl.search.query import PublishedSongs
    from htcl.show import show_found

    songs = PublishedSongs(_default_config(config).workspace)
    found = songs.similar(track_id, k)
    about = songs.describe(track_id)
    show_found(f"songs like {about.title} by {about.artist} ({track_id})", found)


@app.command()
def explore(
    config: ConfigOption = None,
    host: Annotated[
        str, typer.Option(help="address to listen on; beyond loopback others can listen too")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")] = 8321,
) -> None:
    """Search the published set in a browser: by words, sound or song, between meaning and taste, on a map."""
    from htcl.explore.server import serve
    from htcl.logs import quiet_libraries, setup_logging

    setup_logging()
    quiet_libraries()
    serve(_default_config(config), host, port)


@app.command()
def forget(
    user: Annotated[str, typer.Argument(help="user id as the log has it; - reads it from standard input")],
    config: ConfigOption = None,
    override: SetOption = [],  # noqa: B006
) -> None:
    """Forget a user: count the days that hold them again without them, and delete what old versions of tables hold.

    Counted days whose log is gone are dropped whole. No other run may count meanwhile.
    """
    from htcl.users import forget_user

    path = _default_config_path(config)
    loaded = load_config(path, override)
    forget_user(loaded.workspace, sys.stdin.read().strip() if user == "-" else user)
    run_flow("flows.forget", path, override)
    typer.echo(
        "Events of this user are passed over from now on, but the log still holds them: delete them there. Pairs and "
        f"models made before stand as they are; `htcl run {path}` makes new ones."
    )


@app.command()
def models(config: ConfigArgument) -> None:
    """List the trained models: what the gate said of each, and which readers saw when."""
    from htcl.show import show_models

    show_models(load_config(config))


@app.command()
def promote(
    run_or_model: Annotated[str, typer.Argument(help="name of a flow run, or the first letters of a model's key")],
    config: ConfigOption = None,
    override: SetOption = [],  # noqa: B006
) -> None:
    """Publish a model whatever the gate said of it; a set that lacks songs or has collapsed is refused all the same."""
    from htcl.publish import find_model

    path = _default_config_path(config)
    model = find_model(load_config(path, override).workspace, run_or_model)
    typer.echo(run_flow("flows.promote", path, override, model=model).outcome)


@app.command()
def rollback(config: ConfigOption = None) -> None:
    """Go back to the set before that is still there, at once; again to go further. No run publishes today's model."""
    from htcl.champion import rollback_champion
    from htcl.lease import await_end_of
    from htcl.registry import follow_champion

    loaded = _default_config(config)
    await_end_of(loaded.workspace, GC)  # it may be deleting the very set that is gone back to
    champion = rollback_champion(loaded.workspace)
    follow_champion(loaded, champion)
    typer.echo(f"readers see model {champion.stage2} with index {champion.index} ({champion.why})")
    if champion.withdrawn:
        typer.echo(f"no run publishes these models again, `htcl promote` does: {', '.join(champion.withdrawn)}")


@app.command()
def gc(
    config: ConfigArgument,
    keep: Annotated[
        int,
        typer.Option(min=1, help="published models, and newest artifacts of each kind, that stay with their origin"),
    ] = 3,
    grace_hours: Annotated[float, typer.Option(min=0, help="what is younger stays")] = 24,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False,
) -> None:
    """Delete artifacts, table files, shards and leftovers that nothing needs; waits for a run that is at work."""
    from htcl.collect import collect
    from htcl.lease import workspace_lease
    from htcl.logs import setup_logging
    from htcl.show import show_garbage

    setup_logging()
    workspace = load_config(config).workspace
    with workspace_lease(workspace, GC, here=True, on_loss=lambda: os._exit(1)):
        show_garbage(collect(workspace, keep, grace_hours, dry_run), dry_run)


@app.command()
def doctor(config: ConfigArgument, override: SetOption = []) -> None:  # noqa: B006
    """Check this machine and a configuration, and say what to do about each finding; exit code 1 with a problem."""
    from htcl.doctor.access import access_findings
    from htcl.doctor.machine import machine_findings
    from htcl.show import show_findings

    loaded = load_config(config, override)
    findings = [*machine_findings(loaded), *access_findings(loaded)]
    show_findings(findings)
    sys.exit(any(finding.level == "problem" for finding in findings))


@app.command()
def import_reference(
    checkpoint: Annotated[Path, typer.Argument(help="published checkpoint of stage 1 or 2", metavar="FILE.pth")],
    folder: Annotated[Path, typer.Argument(help="new model folder", metavar="OUT")],
    audio_heads: Annotated[int, typer.Option(min=1, help="attention heads, which no weight tells")] = 12,
    text_heads: Annotated[int, typer.Option(min=1, help="likewise, of the text encoder")] = 12,
    tokenizer: Annotated[str | None, typer.Option(help="folder or hub name of the text encoder's tokenizer")] = None,
) -> None:
    """Turn a checkpoint of the authors' code into a model folder for from_pretrained."""
    from htcl.logs import quiet_libraries
    from htcl.models import reference

    quiet_libraries()
    config = reference.import_reference(
        checkpoint, folder, audio_heads=audio_heads, text_heads=text_heads, tokenizer=tokenizer
    )
    typer.echo(f"stage {config.stage} model of {checkpoint.name}: {folder}")
    if tokenizer is None:
        typer.echo(f"it has no tokenizer: {folder / 'README.md'} says how to add it, or import with --tokenizer FOLDER")


@app.command()
def export_reference(
    folder: Annotated[Path, typer.Argument(help="model folder", metavar="FOLDER")],
    checkpoint: Annotated[Path, typer.Argument(help="new file", metavar="FILE.pth")],
) -> None:
    """Turn a model folder into a checkpoint that the authors' code loads."""
    from htcl.logs import quiet_libraries
    from htcl.models import reference

    quiet_libraries()
    reference.export_reference(folder, checkpoint)
    typer.echo(f"checkpoint of {folder}: {checkpoint}")


@datasets.command("list")
def list_datasets() -> None:
    """Which data sets can be prepared, what each brings, and its licence."""
    from htcl.datasets.registry import DATASETS
    from htcl.show import show_datasets

    show_datasets(list(DATASETS.values()))


@datasets.command()
def prepare(
    name: Annotated[str, typer.Argument(help="of the data set, see `htcl datasets list`", metavar="NAME")],
    source: Annotated[Path, typer.Option("--from", help="folder that the data set lies in")],
    target: Annotated[Path | None, typer.Option("--to", help="folder that is made", show_default="NAME-htcl")] = None,
    subset: Annotated[str | None, typer.Option(help="where the data set has several")] = None,
) -> None:
    """Map a data set on disk onto the contracts: catalog, log, configuration; its audio stays where it is."""
    from htcl.datasets.prepare import describe
    from htcl.datasets.prepare import prepare as prepare_dataset
    from htcl.logs import setup_logging

    setup_logging()
    typer.echo(describe(prepare_dataset(name, source, target or Path(f"{name}-htcl"), subset)))


def _run(path: Path, overrides: list[str]) -> None:
    """Run the whole pipeline and show what came out."""
    from htcl.plan import raw_inputs
    from htcl.show import show_outcome

    config = load_config(path, overrides)
    raw_inputs(config)  # what is not there ends here, before anything starts
    started = time.monotonic()
    done = run_flow("flows.full_pipeline", path, overrides)
    show_outcome(config, done.keys, done.outcome, time.monotonic() - started)


def _default_config(path: Path | None) -> PipelineConfig:
    return load_config(_default_config_path(path))


def _default_config_path(path: Path | None) -> Path:
    if named := path or os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    for candidate in (Path("htcl.yaml"), DEMO_ROOT / "htcl.yaml"):
        if candidate.exists():
            return candidate
    raise HTCLError("which catalog? Give --config CONFIG, set HTCL_CONFIG, or run `htcl demo` first")


def main() -> None:
    """Run the command; what a person can mend ends in one sentence and exit code 1."""
    try:
        app()
    except HTCLError as error:
        typer.secho(f"htcl: {error}", fg="red", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
