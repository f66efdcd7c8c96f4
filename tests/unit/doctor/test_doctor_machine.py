import shutil
from collections import namedtuple
from importlib.metadata import PackageNotFoundError

import pytest

from htcl.config import PipelineConfig
from htcl.doctor import machine
from htcl.doctor.machine import machine_findings

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def config(tmp_path):
    return PipelineConfig(workspace=str(tmp_path / "work"), catalog={"path": "c"}, interactions={"path": "i"})


def found(findings, what):
    return next(finding for finding in findings if finding.what == what)


def test_a_machine_that_runs_the_tests_is_fit(config, monkeypatch):
    monkeypatch.setattr(machine, "_available_bytes", lambda: 16 << 30)  # others may be at work on it
    problems = [finding for finding in machine_findings(config) if finding.level == "problem"]
    assert problems == []


def test_every_finding_that_is_not_ok_says_what_to_do(config, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, 0))
    monkeypatch.setattr(machine, "_available_bytes", lambda: 1 << 28)
    findings = machine_findings(config)
    bad = {finding.what: finding.way_out for finding in findings if finding.level != "ok"}
    assert {"Java", "compiler", "memory", "disk for workspace", "disk for temporary files", "shared memory"} <= set(bad)
    assert all(bad.values())
    assert "htcl gc" in bad["disk for workspace"]


def test_a_java_that_spark_does_not_run_on_is_a_problem(config, tmp_path, monkeypatch):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    finding = found(machine_findings(config), "Java")
    assert finding.level == "problem" and finding.found.startswith("11 ")
    assert "openjdk-17" in finding.way_out


def test_a_missing_compiler_matters_as_soon_as_there_are_two_ranks(config, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert machine._compiler(config).level == "warning"
    two = config.model_copy(update={"training": config.training.model_copy(update={"processes": 2})})
    assert machine._compiler(two).level == "problem"


def test_packages_are_held_against_the_ranges_that_were_tested(monkeypatch):
    real = machine.version
    monkeypatch.setattr(machine, "version", lambda name: "0.1" if name == "torch" else real(name))
    (finding,) = machine._packages()
    assert finding.level == "warning" and finding.found == "torch 0.1"
    assert "pip install 'torch==" in finding.way_out

    def gone(name):
        if name == "prefect":
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(machine, "version", gone)
    (finding,) = machine._packages()
    assert finding.level == "problem" and finding.found == "prefect is not installed"


def test_a_size_that_spark_does_not_read_is_named(config):
    spark = config.spark.model_copy(update={"driver_memory": "much"})
    finding = found(machine_findings(config.model_copy(update={"spark": spark})), "spark.driver_memory")
    assert (finding.level, finding.found) == ("problem", "much")


@pytest.mark.parametrize(("text", "size"), [("2g", 2 << 30), ("512m", 512 << 20), ("1024", 1 << 30), ("3 G", 3 << 30)])
def test_sizes_are_read_as_spark_reads_them(text, size):
    assert machine._size(text) == size
