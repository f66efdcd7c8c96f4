"""A Prefect server and workers as processes of their own, and what a person does with them by command."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .harness import BIN, ROOT

DEADLINE_SECONDS = 600


@dataclass
class Serving:
    """A server and its environment; `log` is where the processes print."""

    env: dict[str, str]
    log: Path
    server: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]

    def command(self, *arguments: object) -> str:
        """Run a Prefect command that has to succeed; gives what it printed."""
        command = [str(BIN / "prefect"), *map(str, arguments)]
        done = subprocess.run(command, env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:] + self.log.read_text()[-6000:]
        return done.stdout

    def start(self, name: str, **parameters: object) -> str:
        """Start a deployment; the id of its flow run."""
        given = [part for key, value in parameters.items() for part in ("--param", f"{key}={value}")]
        printed = self.command("deployment", "run", f"htcl/{name}", *given)
        return next(line.split()[-1] for line in printed.splitlines() if "UUID" in line)

    def run(self, name: str, **parameters: object) -> str:
        """Run a deployment, which has to complete; gives what came of it."""
        flow_run = self.start(name, **parameters)
        state = self.await_state(flow_run, "COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        assert state["type"] == "COMPLETED", [state["message"], *self.logs(flow_run)[-40:]]
        return str(state["message"])

    def get(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the server's API."""
        request = urllib.request.Request(
            f"{self.env['PREFECT_API_URL']}{path}",
            data=json.dumps(body).encode() if body is not None else None,
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def create_block(self, kind: str, name: str, **data: object) -> str:
        """Create a block of one of Prefect's own kinds; its id."""
        kinds = {each["slug"]: each["id"] for each in self.get("/block_types/filter", {})}
        schemas = self.get("/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kinds[kind]]}}})
        block = {"name": name, "data": data, "block_schema_id": schemas[0]["id"], "block_type_id": kinds[kind]}
        return str(self.get("/block_documents/", block)["id"])

    def state(self, flow_run: str) -> dict[str, Any]:
        """State of a flow run: type, name, message."""
        return dict(self.get(f"/flow_runs/{flow_run}")["state"])

    def await_state(self, flow_run: str, *types: str) -> dict[str, Any]:
        """Wait until a flow run is in a state of one of these types."""
        return await_value(lambda: found if (found := self.state(flow_run))["type"] in types else None)

    def occupying(self) -> list[dict[str, Any]]:
        """Flow runs that take a slot of the work pool."""
        types = ["PENDING", "RUNNING", "CANCELLING"]
        return list(self.get("/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": types}}}}))

    def logs(self, flow_run: str) -> list[str]:
        """What a flow run logged."""
        body = {"logs": {"flow_run_id": {"any_": [flow_run]}}, "sort": "TIMESTAMP_ASC"}
        lines: list[str] = []
        while found := self.get("/logs/filter", {**body, "offset": len(lines)}):
            lines += [line["message"] for line in found]
        return lines

    def await_line(self, flow_run: str, words: str) -> str:
        """Wait until a flow run logs a line with some words."""
        return await_value(lambda: next((line for line in self.logs(flow_run) if words in line), None))

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Another worker, once it polls the pool."""
        before = len(self._polling())
        with self.log.open("a") as out:
            process = subprocess.Popen(
                ["bash", "infra/prefect/worker.sh"], cwd=ROOT, env=self.env, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self.workers.append(process)
        await_value(lambda: len(self._polling()) > before or process.poll() is not None)
        assert process.poll() is None, self.log.read_text()[-4000:]
        return process

    def _polling(self) -> list[Any]:
        with contextlib.suppress(OSError):
            return list(self.get("/work_pools/htcl/workers/filter", {}))
        return []

    def start_server(self) -> None:
        """The server on its port, once it answers; after it was killed, again."""
        with self.log.open("a") as out:
            self.server = subprocess.Popen(
                [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1"],
                cwd=ROOT, env=self.env, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        await_value(self._answers)

    def _answers(self) -> bool:
        assert self.server.poll() is None, self.log.read_text()[-4000:]
        with contextlib.suppress(OSError):
            return self.get("/health") is True
        return False

    def end(self) -> None:
        """End workers, then the server."""
        for process in [*self.workers, self.server]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in [*self.workers, self.server]:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def serving(environment: dict[str, str], log: Path, **more: str) -> Iterator[Serving]:
    """A server on a free port, without a worker yet."""
    port = free_port()
    env = {
        **environment,
        "PREFECT_HOME": str(log.with_suffix(".home")),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "htcl",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        **more,
    }
    log.touch()
    found = Serving(env, log, None, [])  # type: ignore[arg-type]
    try:
        found.start_server()
        yield found
    finally:
        found.end()


def await_value(look: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
    """Look until there is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.5)
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
