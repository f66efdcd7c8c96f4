"""The files of infra/ against the schemas and linters of what reads them; nothing of it runs here."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from htcl.config import PipelineConfig
from htcl.config_file import load_config

ROOT = Path(__file__).resolve().parents[3]
INFRA = ROOT / "infra"
BIN = Path(sys.executable).parent
SCRIPTS = sorted([*INFRA.rglob("*.sh"), *INFRA.rglob("*.sbatch"), ROOT / ".ci" / "run"])
MANIFESTS = sorted(path for path in (INFRA / "k8s").glob("*.yaml") if "apiVersion" in path.read_text())


def passes(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed (make setup-hosts)")
def test_scripts_pass_shellcheck():
    assert len(SCRIPTS) > 8
    passes("shellcheck", *SCRIPTS)


def test_the_dockerfile_passes_hadolint():
    passes(BIN / "hadolint", INFRA / "docker" / "Dockerfile")


@pytest.mark.parametrize("name", ["compose.yaml", "gpu.yaml"])
def test_compose_follows_its_schema(name):
    passes(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", INFRA / "docker" / name)


def test_secrets_are_in_no_commit_and_no_image():
    assert "**/.env" in (ROOT / ".dockerignore").read_text().splitlines()
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_secret_of_compose_is_asked_for_in_the_example():
    """A value that is missing ends `docker compose` with the way out."""
    text = (INFRA / "docker" / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+)", text))
    given = {
        line.partition("=")[0] for line in (INFRA / "docker" / "example.env").read_text().splitlines() if "=" in line
    }
    assert asked == given
    for name in asked - {"TORCH_INDEX"}:
        assert f"${{{name}:?copy example.env to .env}}" in text, name


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_takes_each_manifest(path, tmp_path):
    documents = list(yaml.safe_load_all(path.read_text()))
    if documents[0]["kind"] == "Kustomization":
        for name in documents[0]["resources"]:
            assert (path.parent / name).exists(), name
        return
    if documents[0]["kind"] == "JobSet":  # no part of Kubernetes itself, but what it makes is
        (job,) = documents[0]["spec"]["replicatedJobs"]
        documents = [{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **job["template"]}]
    for number, document in enumerate(documents):
        one = tmp_path / f"{number}.yaml"
        one.write_text(yaml.safe_dump(document))
        passes(BIN / "kubernetes-validate", "--strict", one)


@pytest.mark.parametrize("path", ["docker/htcl.yaml", "k8s/htcl.yaml"])
def test_configurations_load(path):
    assert isinstance(load_config(INFRA / path), PipelineConfig)


def test_what_manifests_and_scripts_name_is_there():
    """Files of the image, by the paths under which the image has them."""
    texts = [path.read_text() for path in [*INFRA.rglob("*.yaml"), *SCRIPTS, INFRA / "docker" / "Dockerfile"]]
    named = set(re.findall(r"/opt/htcl/((?:infra|flows|jobs)/[\w./-]+)", "\n".join(texts)))
    assert named
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_worker_registers_the_deployments_that_there_are():
    deployments = {item["name"] for item in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    listed = re.search(r"for name in ([\w -]+); do", (INFRA / "prefect" / "worker.sh").read_text())[1].split()
    assert set(listed) == deployments


def test_automations_have_the_fields_of_prefect():
    from prefect.events.schemas.automations import AutomationCore

    found = yaml.safe_load((INFRA / "prefect" / "automations.yaml").read_text())["automations"]
    assert len(found) == 4
    for automation in found:
        AutomationCore.model_validate(json.loads(json.dumps(automation)))
