"""Checks of this machine: programs, versions, memory, disk, GPUs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from htcl import storage
from htcl.config import PipelineConfig
from htcl.doctor.findings import Finding, ok, problem, warning

JAVA = range(17, 22)
"""Versions that Spark 4 runs on."""
_GB = 1 << 30
MIN_DISK_GB = 10
RANK_SHARED_MB = 72
"""Of /dev/shm, that DeepSpeed's collectives take for each rank on a CPU."""


def machine_findings(config: PipelineConfig) -> list[Finding]:
    """All checks that need no network."""
    return [_python(), _java(), _compiler(config), *_packages(), _memory(config), *_disks(config), *_gpus(config)]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return ok("Python", found)
    return problem("Python", found, "htcl is tested with 3.11 and 3.12: make setup with PYTHON=python3.11")


def _java() -> Finding:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if not java or not Path(java).exists():
        return problem("Java", java or "none", "install openjdk-17-jre-headless, or set JAVA_HOME to a Java 17 to 21")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    number = re.search(r'version "(\d+)', said)
    found = f"{number[1] if number else 'unknown'} ({java})"
    if number and int(number[1]) in JAVA:
        return ok("Java", found)
    return problem("Java", found, "Spark runs on Java 17 to 21: install openjdk-17-jre-headless, or set JAVA_HOME")


def _compiler(config: PipelineConfig) -> Finding:
    missing = [name for name in ("g++", "ninja") if not shutil.which(name)]
    if not missing:
        return ok("compiler", "g++ and ninja")
    way_out = "apt-get install g++, and activate the environment that has ninja (pip)"
    if config.training.processes > 1 or config.training.hostfile:
        return problem("compiler", f"no {' and '.join(missing)}", f"DeepSpeed compiles its collectives: {way_out}")
    return warning("compiler", f"no {' and '.join(missing)}", f"needed as soon as there are two ranks: {way_out}")


def _packages() -> list[Finding]:
    """Installed packages against the ranges that were tested together."""
    wrong = []
    tested = [Requirement(text) for text in requires("htcl") or []]
    tested = [needed for needed in tested if needed.marker is None or needed.marker.evaluate({"extra": ""})]
    for needed in tested:
        try:
            found = version(needed.name)
        except PackageNotFoundError:
            wrong.append(problem("packages", f"{needed.name} is not installed", f"pip install '{needed}'"))
            continue
        if not needed.specifier.contains(found, prereleases=True):
            way_out = f"only {needed.specifier} was tested with the others: pip install '{needed}'"
            wrong.append(warning("packages", f"{needed.name} {found}", way_out))
    return wrong or [ok("packages", f"{len(tested)}, all in the ranges that were tested together")]


def _memory(config: PipelineConfig) -> Finding:
    there = _available_bytes() / _GB
    found = f"{there:.1f} GB free"
    if (size := _size(config.spark.driver_memory)) is None:
        return problem("spark.driver_memory", config.spark.driver_memory, "write it as Spark does, such as 512m or 2g")
    wanted = size / _GB + 2
    if there < wanted:
        way_out = f"Spark's driver and its Python workers want {wanted:.1f} GB: lower spark.driver_memory, or free some"
        return problem("memory", found, way_out)
    return ok("memory", found)


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        return min(free, int(text) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return free


def _size(text: str) -> int | None:
    """Bytes of Spark's `2g`, `512m`; None where it is nothing such."""
    found = re.fullmatch(r"(\d+)\s*([kmgt]?)b?", text.lower().strip())
    return int(found[1]) << {"k": 10, "": 20, "m": 20, "g": 30, "t": 40}[found[2]] if found else None


def _disks(config: PipelineConfig) -> list[Finding]:
    places = {"temporary files": Path(tempfile.gettempdir())}
    if storage.is_local(config.workspace):
        places["workspace"] = storage.local_path(config.workspace)
    found = []
    for name, path in places.items():
        there = next(place for place in (path, *path.parents) if place.exists())
        free = shutil.disk_usage(there).free / _GB
        if free < 1:
            found.append(problem(f"disk for {name}", f"{free:.1f} GB free at {there}", _ROOM[name]))
        elif free < MIN_DISK_GB:
            found.append(warning(f"disk for {name}", f"{free:.1f} GB free at {there}", _ROOM[name]))
        else:
            found.append(ok(f"disk for {name}", f"{free:.0f} GB free at {there}"))
    return [*found, _shared_memory(config)]


_ROOM = {
    "workspace": "free space; `htcl gc CONFIG --dry-run` says what nobody needs",
    "temporary files": "free space, or set TMPDIR to a larger disk: Spark shuffles there",
}


def _shared_memory(config: PipelineConfig) -> Finding:
    free = shutil.disk_usage("/dev/shm").free >> 20 if Path("/dev/shm").exists() else 0
    wanted = RANK_SHARED_MB * config.training.processes
    if free >= wanted:
        return ok("shared memory", f"{free} MB free at /dev/shm")
    way_out = f"ranks on CPUs take {wanted} MB: give the container --shm-size, or delete what dead runs left there"
    return problem("shared memory", f"{free} MB free at /dev/shm", way_out)


def _gpus(config: PipelineConfig) -> list[Finding]:
    import torch

    smi = shutil.which("nvidia-smi")
    if not torch.cuda.is_available():
        if smi:
            way_out = "install the CUDA build of this version of torch from PyTorch's index"
            return [problem("GPU", f"nvidia-smi is there, but torch {torch.__version__} sees no GPU", way_out)]
        return [ok("GPU", "none; everything runs on CPUs")]
    count = torch.cuda.device_count()
    names = sorted({torch.cuda.get_device_name(n) for n in range(count)})
    found = [ok("GPU", f"{count} of {', '.join(names)}, CUDA {torch.version.cuda}")]
    if not config.training.hostfile and config.training.processes > count:
        way_out = f"one rank a GPU: set training.processes to {count}"
        found.append(problem("GPU", f"{config.training.processes} ranks for {count} GPUs", way_out))
    if torch.distributed.is_nccl_available():
        number: tuple[int, ...] = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
        found.append(ok("NCCL", ".".join(map(str, number))))
    else:
        found.append(problem("NCCL", "not in this build of torch", "install PyTorch's own CUDA build"))
    return found
