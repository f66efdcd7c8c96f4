"""`make chaos`: inject faults, print a line for each and a table of all; exit code 1 where one changed anything."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from htcl.flow_process import flow_environment
from tests.chaos.faults import FAULTS
from tests.chaos.flow import MARK, SERVED
from tests.chaos.jvm import quick_start
from tests.chaos.outcome import Outcome, inject, table
from tests.chaos.room import Room
from tests.chaos.world import World, make_world
from tests.integration.harness import BIN, ROOT
from tests.integration.serving import Serving, serving

USER_KEY = "the key of a generated world is no secret"


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--injections", type=int, default=40, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the moments, and of what is hit")
    parser.add_argument("--faults", nargs="*", default=[], help="words of the faults that are wanted; all by default")
    options = parser.parse_args()
    names = [name for name in FAULTS if not options.faults or any(word in name for word in options.faults)]
    with tempfile.TemporaryDirectory(prefix="htcl-chaos-") as folder:
        outcomes = run(Path(folder), names, options.injections, options.seed)
    print(f"\n{table(outcomes)}")
    sys.exit(any(not outcome.sound for outcome in outcomes))


def run(folder: Path, names: list[str], injections: int, seed: int) -> list[Outcome]:
    """Make the world, then inject faults one after another.

    Args:
        folder: for all of it.
        names: of the faults, which come in turn.
        injections: how many.
        seed: of the moments, and of what is hit.
    """
    environment = own_environment(folder)
    with serving({**environment, MARK: SERVED}, folder / "served.log") as served:
        environment["PREFECT_API_URL"] = served.env["PREFECT_API_URL"]
        environment |= quick_start(folder, environment)
        world = make_world(folder / "world", environment)
        print(f"undisturbed run: {world.seconds:.0f} s; {len(world.truth)} hashes of what it made", flush=True)
        chosen = [names[number % len(names)] for number in range(injections)]
        return inject_all(world, chosen, folder, environment, served, seed)


def inject_all(
    world: World, names: list[str], folder: Path, environment: dict[str, str], served: Serving, seed: int
) -> list[Outcome]:
    """Inject faults one after another, each into a workspace of its own, and print what came of each."""
    outcomes: list[Outcome] = []
    began = time.monotonic()
    for number, name in enumerate(names, start=1):
        chosen = random.Random(f"{seed} {number} {name}")
        outcomes.append(inject(name, Room(world, folder / str(number), environment, served, chosen)))
        left = (time.monotonic() - began) / number * (len(names) - number)
        print(f"{number}/{len(names)}  {outcomes[-1].line}  ({left / 60:.0f} min to go)", flush=True)
    return outcomes


def own_environment(folder: Path) -> dict[str, str]:
    """Of everything that runs: no Prefect home, user key or network but its own."""
    return {
        **os.environ,
        **flow_environment(),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(folder / "prefect"),
        "HTCL_HOME": str(ROOT),
        "HTCL_USER_KEY": USER_KEY,
        "HF_HUB_OFFLINE": "1",
    }


if __name__ == "__main__":
    main()
