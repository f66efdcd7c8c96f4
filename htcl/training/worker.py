"""What the launcher starts once a rank."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from htcl.artifacts import Recipe
from htcl.config_file import load_config
from htcl.errors import HTCLError
from htcl.logs import get_logger, log_error, quiet_libraries, setup_logging
from htcl.plan import Step
from htcl.training.launch import CONFIG_FILE, RECIPE_FILE


def main() -> None:
    """Parse the rank's arguments and train.

    Every rank logs its own error as one line: only one of them may know the cause, and it is not always rank 0. An
    HTCLError ends in its sentence, anything else also in a traceback.
    """
    parser = argparse.ArgumentParser(description="One rank of a training stage")
    parser.add_argument("--out", required=True, type=Path, help="folder for the model")
    parser.add_argument(
        "--work", required=True, type=Path, help="folder of the run: configuration, recipe, checkpoints"
    )
    arguments = parser.parse_args()
    setup_logging()
    logger, rank = get_logger("training"), os.environ.get("RANK", "0")
    try:
        _train(arguments.out, arguments.work)
    except HTCLError as error:
        log_error(logger, str(error), rank=rank)
        sys.exit(1)
    except Exception as error:
        log_error(logger, str(error), rank=rank, exception=type(error).__name__)
        raise


def _train(out: Path, work: Path) -> None:
    from htcl.training.loop import train  # brings torch and DeepSpeed, whose errors are to be logged too

    quiet_libraries()
    config = load_config(work / CONFIG_FILE)
    recipe = Recipe(**json.loads((work / RECIPE_FILE).read_text()))
    train(config, Step(recipe.kind, recipe, published=False, reason=""), out, work)


if __name__ == "__main__":
    main()
