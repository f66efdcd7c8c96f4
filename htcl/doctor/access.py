"""Checks of what lies outside: storage, the user key, hosts, Prefect and MLflow."""

from __future__ import annotations

import base64
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

from htcl import storage
from htcl.config import PipelineConfig
from htcl.doctor.findings import Finding, ok, problem, warning
from htcl.errors import HTCLError
from htcl.lease import lease_holder
from htcl.models.untrained import text_encoder_folder
from htcl.plan import audio_root
from htcl.training.hosts import SSH, Host, training_hosts
from htcl.users import KEY_FILE_VARIABLE, KEY_VARIABLE, load_user_key

MAX_SKEW_SECONDS = 60
PREFECT_PORT = 4200
_SECONDS = 10


def access_findings(config: PipelineConfig) -> list[Finding]:
    """All checks of what is reached from here."""
    inputs = [
        _readable("catalog.path", config.catalog.path),
        _readable("catalog.audio_root", _audio_root(config)),
        _readable("interactions.path", config.interactions.path),
        _text_encoder(config.model.text_encoder),
    ]
    return [
        *_workspace(config.workspace),
        *inputs,
        _user_key(config.workspace),
        *_hosts(config),
        _prefect(),
        *_mlflow(),
    ]


def _audio_root(config: PipelineConfig) -> str:
    try:
        return audio_root(config)
    except HTCLError:  # the catalog's own line says why
        return config.catalog.audio_root or config.catalog.path


def _workspace(workspace: str) -> list[Finding]:
    """Write, create only where there is nothing, read, delete; and whether its clock is ours."""
    uri = storage.join(workspace, f".doctor-{uuid.uuid4().hex}")
    try:
        storage.write_bytes(uri, b"first")
        conditional = not storage.create_bytes(uri, b"second") and storage.read_bytes(uri) == b"first"
        skew = storage.size_and_age(uri)[1] - time.time()
        storage.remove_file(uri)
    except (HTCLError, OSError) as error:
        return [problem("workspace", f"{workspace}: {error}", "check path, permissions, credentials and endpoint")]
    found = [ok("workspace", f"{workspace} can be written and read")]
    if not conditional:
        way_out = "the store must have conditional writes (If-None-Match): two runs could else publish one artifact"
        found = [problem("workspace", f"{workspace} overwrites what is there", way_out)]
    if abs(skew) > MAX_SKEW_SECONDS:
        way_out = "synchronise this machine's clock (NTP): ages, schedules and signatures of S3 hang on it"
        found.append(warning("clock", f"{-skew:+.0f} s against the storage", way_out))
    else:
        found.append(ok("clock", f"{-skew:+.0f} s against the storage"))
    if holder := lease_holder(workspace):
        about = f"{holder.what} on {holder.host.split()[0]}, process {holder.pid}, since {holder.since}"
        found.append(
            warning("lease", f"held by {about}", "another run would wait; if it is dead, for a minute at most")
        )
    return found


def _readable(setting: str, uri: str) -> Finding:
    try:
        files = storage.list_files(uri)
    except (HTCLError, OSError) as error:
        return problem(setting, str(error), f"set {setting}, or make it readable for this user")
    if not files:
        return problem(setting, f"{uri} is empty", f"set {setting} to where the files are")
    return ok(setting, f"{uri}: {len(files)} files")


def _text_encoder(name: str) -> Finding:
    what = "model.text_encoder"
    try:
        folder = text_encoder_folder(name)
    except HTCLError as error:
        return problem(what, str(error), "install the package, or name a folder")
    if folder.startswith("/"):
        if (Path(folder) / "config.json").exists():
            return ok(what, folder)
        return problem(what, f"{folder} holds no config.json", "name the folder of a BERT as save_pretrained writes it")
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return warning(what, f"{name}, a hub name, and HF_HUB_OFFLINE=1", "works only if the hub's cache holds it")
    return ok(what, f"{name}, from the hub or its cache")


def _user_key(workspace: str) -> Finding:
    named = next((name for name in (KEY_VARIABLE, KEY_FILE_VARIABLE) if os.environ.get(name)), None)
    if named is None and storage.is_local(workspace):
        return ok("user key", "the workspace's own, in its secrets/; keep it: counts hang on it")
    try:
        load_user_key(workspace)
    except HTCLError as error:
        return problem("user key", str(error), f"set {KEY_VARIABLE}, or {KEY_FILE_VARIABLE} to a file with a secret")
    return ok("user key", f"from {named}")


def _hosts(config: PipelineConfig) -> list[Finding]:
    """That every host of the hostfile is reached without a password and has the same htcl and clock."""
    if not config.training.hostfile:
        return []
    try:
        hosts = training_hosts(config.training)
    except HTCLError as error:
        return [problem("training.hostfile", str(error), "mend the file")]
    return [_host(host) for host in hosts if host.remote]


def _host(host: Host) -> Finding:
    script = "import time, importlib.metadata as m; print(time.time(), m.version('htcl'))"
    command = [*SSH, host.name, shlex.join([sys.executable, "-c", script])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    what = f"host {host.name}"
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return problem(what, said, f"ssh {host.name} must work without a password, and {sys.executable} be there, too")
    seconds, other = done.stdout.split()[-2:]
    skew = float(seconds) - time.time()
    if other != version("htcl"):
        return problem(what, f"has htcl {other}", f"install {version('htcl')}, as it is here")
    if abs(skew) > MAX_SKEW_SECONDS:
        return warning(what, f"its clock is {skew:+.0f} s off", "synchronise the clocks (NTP)")
    return ok(what, f"{host.slots} ranks, htcl {other}")


def _prefect() -> Finding:
    url = os.environ.get("PREFECT_API_URL")
    if url:
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=_SECONDS):
                return ok("Prefect", f"{url} answers")
        except (urllib.error.URLError, OSError) as error:
            way_out = (
                "start the server (make serve), or mend PREFECT_API_URL; without it runs start a server of their own"
            )
            return problem("Prefect", f"{url}: {getattr(error, 'reason', error)}", way_out)
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", PREFECT_PORT)) == 0
    if taken:
        way_out = f"export PREFECT_API_URL=http://127.0.0.1:{PREFECT_PORT}/api if that is your Prefect server"
        return warning("Prefect", f"PREFECT_API_URL is not set, and port {PREFECT_PORT} is taken", way_out)
    return ok("Prefect", f"no server named; runs start their own; port {PREFECT_PORT} is free for make serve")


def _mlflow() -> list[Finding]:
    url = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not re.match("https?://", url):
        return []
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    where = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"  # a password is nobody's business
    request = urllib.request.Request(f"{where}/health")
    if user:
        request.add_header("Authorization", f"Basic {base64.b64encode(unquote(user).encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):
            return [ok("MLflow", f"{where} answers")]
    except (OSError, HTTPException, ValueError) as error:
        way_out = "mend MLFLOW_TRACKING_URI; training goes on without it"
        return [warning("MLflow", f"{where}: {getattr(error, 'reason', error)}", way_out)]
