"""What the person on call relies on: runs that are cancelled, killed or started twice, on a real server and worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from htcl.artifacts import ArtifactStore
from htcl.champion import past_champions, require_champion
from htcl.lease import RUN_VARIABLE, Lease, lease_holder
from htcl.publish import read_judgement

from .harness import ROOT, Htcl, Run
from .serving import Serving, await_value, free_port, serving

LONG = {"stage2": {"epochs": 60}, "training": {"checkpoint_every_steps": 5}}
"""Some minutes of training."""


@pytest.fixture(scope="module")
def served(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server and a worker of its own."""
    with serving(environment, tmp_path_factory.mktemp("serving") / "log") as found:
        found.start_worker()
        yield found


@pytest.fixture(scope="module")
def workspace(demo_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a copy of the finished run, for the tests of this file."""
    folder = shutil.copytree(demo_run.path.parent, tmp_path_factory.mktemp("operations") / "own")
    return folder / demo_run.path.name


def start(served: Serving, config: Path, settings: dict[str, object], name: str = "full-pipeline") -> str:
    return served.start(name, config=config, settings=json.dumps(settings))


def holder_or_none(config: Path) -> Lease | None:
    """Who works on the workspace of a configuration."""
    values = yaml.safe_load(config.read_text())
    return lease_holder(str(config.parent / values["workspace"]))


def holder(config: Path) -> Lease:
    """The same, where somebody has to be there."""
    found = holder_or_none(config)
    assert found is not None
    return found


def at_work(lease: Lease) -> list[int]:
    """Processes that a run has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{RUN_VARIABLE}={lease.token}".encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def first_step(line: str) -> int:
    return int(next(word for word in line.split() if word.startswith("first_step=")).partition("=")[2])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pairs": {"top_k": 9}, "stage1": {"epochs": 400}}, ("session started", "global_step=")),
        (LONG, ("global_step=",)),
    ],
    ids=["Spark and ranks", "ranks"],
)
def test_cancelling_a_run_ends_all_that_it_started(
    served: Serving, workspace: Path, settings: dict[str, object], words: tuple[str, ...]
) -> None:
    flow_run = start(served, workspace, settings)
    for word in words:
        served.await_line(flow_run, word)
    lease = holder(workspace)
    assert at_work(lease)
    before = time.monotonic()
    served.command("flow-run", "cancel", flow_run)
    await_value(lambda: not at_work(lease))
    gone = time.monotonic()
    state = served.await_state(flow_run, "CANCELLED", "FAILED", "CRASHED")
    print(f"\nall processes gone after {gone - before:.1f} s, the slot free after {time.monotonic() - before:.1f} s")
    assert state["type"] == "CANCELLED"
    assert lease_holder(str(workspace.parent / "workspace")) is None
    assert served.occupying() == []


def test_a_run_after_a_cancelled_one_goes_on_from_its_checkpoint(served: Serving, workspace: Path) -> None:
    """Behind the test above, whose training was interrupted."""
    flow_run = start(served, workspace, LONG)
    assert first_step(served.await_line(flow_run, "training samples")) > 0
    lease = holder(workspace)
    os.kill(lease.pid, signal.SIGKILL)
    assert served.await_state(flow_run, "CRASHED", "FAILED", "COMPLETED")["type"] == "CRASHED"
    await_value(lambda: not at_work(lease))


def test_a_killed_server_and_a_killed_worker_cost_no_work(served: Serving, workspace: Path) -> None:
    store = ArtifactStore(str(workspace.parent / "workspace"))
    flow_run = start(served, workspace, {"stage2": {"epochs": 2}})
    served.await_line(flow_run, "training samples")
    lease = holder(workspace)
    os.killpg(served.server.pid, signal.SIGKILL)
    served.server.wait()
    served.start_server()
    worker = served.workers.pop()
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    served.start_worker()
    state = served.await_state(flow_run, "COMPLETED", "FAILED", "CRASHED")
    if state["type"] != "COMPLETED":  # its process went with its worker, and all that it had started with it
        await_value(lambda: not at_work(lease))
        left = holder_or_none(workspace)
        assert left is None or left.token == lease.token  # nobody has begun the same work beside it
        served.run("full-pipeline", config=workspace, settings=json.dumps({"stage2": {"epochs": 2}}))
    trained = [manifest for manifest in store.manifests("stage2") if manifest["section"]["stage2"]["epochs"] == 2]
    assert len(trained) == 1


class Hook:
    """A web server that remembers what automations send."""

    def __init__(self) -> None:
        self.received: list[str] = []
        received, self.port = self.received, free_port()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(self.rfile.read(int(self.headers["content-length"])).decode())
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self._server = HTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def count(self, words: str) -> int:
        """How often it was told something with these words."""
        return sum(words in text for text in self.received)

    def heard(self, words: str) -> Callable[[], str | None]:
        """A look at what was sent, for `await_value`."""
        return lambda: next((text for text in self.received if words in text), None)


@pytest.fixture(scope="module")
def hook(served: Serving, tmp_path_factory: pytest.TempPathFactory) -> Hook:
    """The sample automations on the server, with a webhook that is listened to."""
    hook = Hook()
    served.command("block", "register", "-m", "prefect.blocks.webhook")
    block = served.create_block("webhook", "on-call", method="POST", url=f"http://127.0.0.1:{hook.port}/")
    text = (ROOT / "infra" / "prefect" / "automations.yaml").read_text()
    path = tmp_path_factory.mktemp("hook") / "automations.yaml"
    path.write_text(text.replace("00000000-0000-0000-0000-000000000000", block))
    served.command("automation", "create", "--from-file", path)
    return hook


def test_a_refused_candidate_and_a_failed_run_reach_the_person_on_call(
    served: Serving, workspace: Path, hook: Hook, htcl: Htcl
) -> None:
    champion = require_champion(str(workspace.parent / "workspace"))
    strict = {"stage2": {"epochs": 4}, "gate": {"min_effective_rank": 99.0}}
    outcome = served.run("full-pipeline", config=workspace, settings=json.dumps(strict))
    assert outcome.startswith(f"kept champion {champion.stage2}: The candidate's embeddings have collapsed")
    assert "gate.min_effective_rank" in await_value(hook.heard("kept the champion"))
    assert require_champion(str(workspace.parent / "workspace")) == champion

    refused = served.start("full-pipeline", config=workspace, settings=json.dumps({"pairs": {"buckets": 3}}))
    state = served.await_state(refused, "COMPLETED", "FAILED", "CRASHED")
    assert (state["name"], "take 4" in state["message"]) == ("Refused", True)
    await_value(hook.heard("prefect.flow-run.Refused"))

    model = outcome.rpartition("htcl promote ")[2].split("`")[0]
    judgement = read_judgement(str(workspace.parent / "workspace"), model)
    assert judgement is not None and not judgement.promote
    promoted = htcl("promote", judgement.run, "--config", workspace)
    assert f"published {model}" in promoted.stdout, promoted.stdout[-3000:] + promoted.stderr
    back = htcl("rollback", "--config", workspace)
    assert f"readers see model {champion.stage2}" in back.stdout and model in back.stdout
    assert [entry.stage2 for entry in past_champions(str(workspace.parent / "workspace"))[:2]] == [
        champion.stage2,
        model,
    ]
    assert "withdrawn" in htcl("models", workspace).stdout


def test_a_run_that_no_worker_takes_is_late(served: Serving, workspace: Path, hook: Hook) -> None:
    served.command("work-pool", "pause", "htcl")
    before = hook.count("prefect.flow-run.Late")
    flow_run = served.start("full-pipeline", config=workspace)
    await_value(lambda: served.state(flow_run)["name"] == "Late")
    await_value(lambda: hook.count("prefect.flow-run.Late") > before)
    served.command("work-pool", "resume", "htcl")
    assert served.await_state(flow_run, "COMPLETED", "FAILED", "CRASHED")["type"] == "COMPLETED"


def test_garbage_collection_keeps_what_readers_see(workspace: Path, htcl: Htcl) -> None:
    before = htcl("similar", "T000003", "--config", workspace, "-k", 3).stdout
    done = htcl("gc", workspace, "--keep", 1, "--grace-hours", 0)
    assert done.returncode == 0, done.stderr
    assert "report" in done.stdout and "file of table" in done.stdout
    assert htcl("similar", "T000003", "--config", workspace, "-k", 3).stdout == before
    assert "nothing to delete" in htcl("gc", workspace, "--keep", 1, "--grace-hours", 0, "--dry-run").stdout
