"""A PostgreSQL server of Debian's packages, as a process of its own in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .serving import free_port

PASSWORD = "letmein-5432"


def programs() -> Path | None:
    """Folder of PostgreSQL's programs, the newest; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Run a server on loopback, with a database for Prefect; its URL for SQLAlchemy."""
    # Not below pytest's own folder, which every session of pytest closes to others than its user.
    with tempfile.TemporaryDirectory(prefix="htcl-postgresql-") as folder:
        yield from _serve(Path(folder))


def _serve(folder: Path) -> Iterator[str]:
    bin_, port = programs(), free_port()
    assert bin_ is not None
    as_server = _as_another(folder)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    data = folder / "data"
    initdb = [str(bin_ / "initdb"), "-D", str(data), "-U", "prefect", "-A", "scram-sha-256", f"--pwfile={secret}"]
    _run([*as_server, *initdb])
    settings = (f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off")
    options = ["-D", str(data), *(part for setting in settings for part in ("-c", setting))]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*as_server, str(bin_ / "postgres"), *options], stdout=log, stderr=log)
    try:
        _await(bin_, port, folder / "log")
        client = {"PGPASSWORD": PASSWORD, "PATH": os.environ["PATH"]}
        _run([str(bin_ / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect"], client)
        yield f"postgresql+asyncpg://prefect:{PASSWORD}@127.0.0.1:{port}/prefect"
    finally:
        server.send_signal(signal.SIGINT)  # fast shutdown
        server.wait(60)


def dump(url: str) -> str:
    """Everything in the database of an URL that `postgresql` gave, as text."""
    bin_ = programs()
    assert bin_ is not None
    command = [str(bin_ / "pg_dump"), url.replace("postgresql+asyncpg", "postgresql")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _as_another(folder: Path) -> list[str]:
    """What stands before a program that refuses to run as root; the folder becomes that user's."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    shutil.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _await(bin_: Path, port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while subprocess.run([str(bin_ / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)], check=False).returncode:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _run(command: list[str], env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
