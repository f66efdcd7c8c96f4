"""What the launcher starts once a rank."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from htcl.config_file import load_config
from htcl.errors import HTCLError
from htcl.logs import get_logger, setup_logging


def main() -> None:
    """Parse the rank's arguments and train; an error that a person can mend ends in one sentence."""
    parser = argparse.ArgumentParser(description="One rank of a training stage")
    parser.add_argument("--config", required=True)
    parser.add_argument("--stage", required=True, choices=["stage1", "stage2"])
    parser.add_argument("--champion", help="stage-2 key to fine-tune")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path)
    arguments = parser.parse_args()
    setup_logging()
    from htcl.logs import quiet_libraries
    from htcl.plan import plan
    from htcl.training.loop import train

    quiet_libraries()
    config = load_config(arguments.config)
    try:
        step = plan(config, champion=arguments.champion)[arguments.stage]
        train(config, step, arguments.out, arguments.work)
    except HTCLError as error:
        if os.environ.get("RANK", "0") == "0":
            get_logger(arguments.stage).error(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
