"""JVMs that start fast: most of what a small Spark job takes is loading and compiling Spark's own classes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.integration.cluster import LIGHT_JVM
from tests.integration.harness import BIN

CLASSES = Path(__file__).parent / "classes.py"


def quick_start(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """What makes spark-submit start fast, by an archive of loaded classes in a folder; added to its environment.

    Raises:
        AssertionError: with its last lines, when Spark does not run here.
    """
    archive = folder / "classes.jsa"
    leave = {"SPARK_SUBMIT_OPTS": f"{LIGHT_JVM} -XX:ArchiveClassesAtExit={archive}"}
    done = subprocess.run(
        [str(BIN / "spark-submit"), "--master", "local[1]", str(CLASSES)],
        env={**environment, **leave},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {"SPARK_SUBMIT_OPTS": f"{LIGHT_JVM} -XX:SharedArchiveFile={archive}"}
