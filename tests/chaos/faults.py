"""The faults: each takes a room, disturbs a run in it, and brings the workspace to its end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import yaml

from htcl.artifacts import MANIFEST, ArtifactStore
from htcl.flow_process import flow_environment
from htcl.lease import lease_holder
from htcl.shards.index import read_index
from tests.chaos.flow import LIMIT_SECONDS, ROLES, SERVED, Flow, marked
from tests.chaos.room import Injection, Room, await_flow
from tests.chaos.world import STEPS
from tests.integration.cluster import SUBMIT, Cluster, process_tree, running_cluster
from tests.multinode.hosts import TwoHosts, two_hosts

SPARK_STEPS = ("shards", "pairs", "gate_set", "embeddings")
TRAINED = ("stage1", "stage2")
STARTS = ("catalog", "pairs", "stage1", "stage2", "gate_set", "evaluation")
"""Steps from which on a workspace may lack everything."""
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
SLEEP = Path(__file__).with_name("sleep.c")
"""Goes before it."""
DAY_SECONDS = 86_400
GARBAGE = 0.05


def kill_driver(room: Room) -> Injection:
    """SIGKILL the JVM of a Spark job."""
    return _kill(room, "driver", SPARK_STEPS)


def kill_task_worker(room: Room) -> Injection:
    """SIGKILL a Python process in which Spark runs tasks."""
    return _kill(room, "task worker", SPARK_STEPS)


def kill_rank(room: Room) -> Injection:
    """SIGKILL one rank of a stage of training."""
    return _kill(room, "rank", TRAINED)


def kill_launcher(room: Room) -> Injection:
    """SIGKILL the agent that has started the ranks."""
    return _kill(room, "launcher", TRAINED)


def kill_flow(room: Room) -> Injection:
    """SIGKILL the process of the flow."""
    since = room.choose(STARTS)
    config = room.copy(since)
    flow = room.start(config)
    at = room.anywhen(flow, STEPS[STEPS.index(since) : -1])
    victims = [psutil.Process(flow.process.pid)] if flow.process.poll() is None else []
    return _hit(room, flow, config, victims, f"flow process in {at}")


def kill_executor(room: Room) -> Injection:
    """SIGKILL an executor of a Spark cluster of processes."""
    step = room.choose(SPARK_STEPS[:3])
    with running_cluster() as cluster:
        config = room.copy(step, spark={"master": cluster.master, "conf": SUBMIT})
        flow = room.start(config)
        room.moment(flow, "driver", step)
        await_flow(flow, lambda: step not in flow.working or _executors(cluster))
        return _hit(room, flow, config, _executors(cluster), f"executor in {step}")


def kill_worker(room: Room) -> Injection:
    """SIGKILL Prefect's worker while it runs the deployment."""
    config = room.copy(room.choose(TRAINED))
    worker = room.served.start_worker()
    flow_run = room.served.start("full-pipeline", config=config)
    room.served.await_line(flow_run, "runs, because")
    wait = room.random.uniform(0, room.world.seconds / 2)
    time.sleep(wait)
    workspace = str(config.parent / "workspace")
    room.served.workers.remove(worker)
    worker.kill()
    since = time.monotonic()
    worker.wait()
    state = room.served.await_state(flow_run, "COMPLETED", "FAILED", "CRASHED")
    seconds, hit = time.monotonic() - since, f"worker after {wait:.1f} s"
    deadline = time.monotonic() + LIMIT_SECONDS
    while left := [process for role, process in marked(SERVED) if role in ROLES]:
        assert time.monotonic() < deadline, f"still there after the worker: {left}"
        time.sleep(0.2)
    if state["type"] == "COMPLETED":
        return Injection(hit, config, True, "", seconds)
    assert state["message"], state
    if holder := lease_holder(workspace):
        hit += f", its run held the lease as {holder.what}"
    return Injection(hit, config, False, state["message"], seconds, room.again(config))


def fill_disk(room: Room) -> Injection:
    """Let the workspace run out of space at a random point."""
    since = room.choose(STARTS)
    with _mounted(room.folder / "own" / "workspace") as place:
        config = room.copy(since)
        used, whole = _used(place), _used(room.world.config.parent / "workspace")
        room_bytes = used + int(room.random.random() * (whole - used)) // 4096 * 4096
        subprocess.run(["mount", "-o", f"remount,size={room_bytes}", str(place)], check=True)
        flow = room.start(config)
        began = time.monotonic()
        done = room.finish(
            flow,
            config,
            f"disk full at {room_bytes >> 10} KiB, {used >> 10} of which were used, from {since} on",
            began,
            lambda: subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=True),
        )
        return _moved_out(room, place, done)


def make_read_only(room: Room) -> Injection:
    """Make the workspace read-only at a random moment."""
    since = room.choose(STARTS)
    with _mounted(room.folder / "own" / "workspace") as place:
        config = room.copy(since)
        flow = room.start(config)
        at = room.anywhen(flow, STEPS[STEPS.index(since) : -1])
        hit = await_flow(flow, lambda: not _mount(place, "ro"))  # not while a file is being written
        began = time.monotonic()
        what = f"read-only workspace in {at}"
        done = room.finish(flow, config, what, began, lambda: _mount(place, "rw"), missed=not hit)
        return _moved_out(room, place, done)


def cut_network(room: Room) -> Injection:
    """Cut the cable between the two hosts that train, for a while."""
    step, pause = room.choose(TRAINED), room.random.uniform(1, 40)
    with _on_two_hosts(room, step) as (hosts, config, start):
        flow = _at_work(room, start(config))
        hosts.cut()
        since = time.monotonic()
        await_flow(flow, lambda: time.monotonic() - since > pause)
        hosts.mend()
        what = f"network between two hosts cut for {pause:.0f} s in {step}"
        return room.finish(flow, config, what, since, start=start)


def cancel_on_two_hosts(room: Room) -> Injection:
    """Cancel a run that trains on two hosts, as `htcl run` does: SIGTERM to the flow, then to its server."""
    step = TRAINED[0]  # the second has too few steps to be caught at one
    with _on_two_hosts(room, step) as (hosts, config, start):
        flow = _at_work(room, start(config))
        flow.process.terminate()
        since = time.monotonic()
        while hosts.pids("htcl.training"):
            assert time.monotonic() - since < LIMIT_SECONDS, "ranks stay"
            time.sleep(0.05)
        gone = time.monotonic() - since
        flow.process.wait(LIMIT_SECONDS)
        os.killpg(flow.process.pid, signal.SIGTERM)  # the server that it brought along
        flow.wait()
        ended = bool(ArtifactStore(str(config.parent / "workspace")).manifests(step))
        assert ended or _checkpoints(config), "it left no checkpoint"
        what = f"cancelled on two hosts in {step}; all ranks were gone after {gone:.1f} s"
        seconds = time.monotonic() - since
        return Injection(what, config, False, "cancelled", seconds, room.again(config, start), missed=ended)


@contextlib.contextmanager
def _on_two_hosts(room: Room, step: str) -> Iterator[tuple[TwoHosts, Path, Callable[[Path], Flow]]]:
    """Two hosts, the configuration of a workspace that lacks a stage, and how to start it there."""
    with two_hosts(room.folder / "hosts") as hosts:
        config = room.copy(step, training=_merged(room, "training", hostfile=str(hosts.hostfile)))
        more = {**flow_environment(), **hosts.environment, "SPARK_LOCAL_IP": "127.0.0.1", "PREFECT_API_URL": ""}
        yield hosts, config, lambda config: room.start(config, hosts.inside, **more)


def _at_work(room: Room, flow: Flow) -> Flow:
    """A run a little after it has begun to train."""
    await_flow(flow, lambda: any("global_step=" in line for line in flow.lines))
    time.sleep(room.random.uniform(0, 1))
    return flow


def damage_checkpoint(room: Room) -> Injection:
    """Kill training when it has checkpoints, and flip a byte of the newest."""
    step = room.choose(TRAINED)
    config = room.copy(step)
    flow = room.start(config)
    await_flow(flow, lambda: len(_checkpoints(config)) >= 2)
    flow.process.kill()
    since = time.monotonic()
    flow.wait()
    files = sorted(file for file in _checkpoints(config)[-1].iterdir() if file.is_file())
    hit = _flip(room.random.choice(files), room.random)
    seconds = time.monotonic() - since
    return Injection(f"checkpoint of {step}: {hit}", config, False, "killed", seconds, room.again(config))


def damage_shard(room: Room) -> Injection:
    """Flip a byte of a song's log-mel before it is read."""
    config = room.copy(room.choose((*TRAINED, "gate_set")))
    workspace = config.parent / "workspace"
    store = ArtifactStore(str(workspace))
    songs = read_index(store.fetch("shards", store.manifests("shards")[-1]["key"]))
    song = songs.slice(room.random.randrange(len(songs)), 1).to_pylist()[0]
    shard = workspace / "shards" / song["shard"]
    flow = room.start(config)
    hit = _flip(shard, room.random, song["offset"] + room.random.randrange(song["size"]))
    since = time.monotonic()

    def mend() -> None:
        shard.unlink()
        shutil.rmtree(workspace / "artifacts" / "shards")

    return room.finish(flow, config, f"shard: {hit}", since, mend)


def damage_manifest(room: Room) -> Injection:
    """Damage the manifest of an artifact that the run stands on, at a random moment."""
    since = room.choose(STARTS[2:])
    config = room.copy(since)
    kind = room.random.choice(STEPS[: STEPS.index(since)])
    manifest = next((config.parent / "workspace" / "artifacts" / kind).glob(f"*/{MANIFEST}"))
    flow = room.start(config)
    at = room.anywhen(flow, STEPS[STEPS.index(since) : -1])
    text = manifest.read_bytes()
    manifest.write_bytes(text[: room.random.randrange(len(text))])
    began = time.monotonic()
    return room.finish(flow, config, f"manifest of {kind} cut in {at}", began, lambda: shutil.rmtree(manifest.parent))


def damage_index(room: Room) -> Injection:
    """Flip a byte of the index before it is published."""
    config = room.copy("report")
    file = next((config.parent / "workspace" / "artifacts" / "index").glob("*/index.faiss"))
    hit = _flip(file, room.random)
    flow = room.start(config)
    return room.finish(flow, config, f"index: {hit}", time.monotonic(), lambda: shutil.rmtree(file.parent))


def set_clock_back(room: Room) -> Injection:
    """Set the clock of all processes back by up to a week at a random moment."""
    since = room.choose(STARTS)
    config = room.copy(since)
    clock = room.folder / "clock"
    clock.write_text("+0")
    assert Path(FAKETIME).exists(), "libfaketime is not installed (make setup-hosts)"
    sleep = room.folder / "sleep.so"
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", str(SLEEP), "-o", str(sleep)], check=True)
    faked = {
        "LD_PRELOAD": f"{sleep} {FAKETIME}",
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_CACHE_DURATION": "1",
    }
    flow = room.start(config, **faked)
    at = room.anywhen(flow, STEPS[STEPS.index(since) : -1])
    back = room.random.randint(60, 7 * DAY_SECONDS)
    clock.write_text(f"-{back}")
    told = subprocess.run(["date", "+%s"], env={**os.environ, **faked}, capture_output=True, text=True, check=True)
    assert abs(time.time() - back - int(told.stdout)) < 60, "the clock was not set back"
    return room.finish(flow, config, f"clock set back by {back / 3600:.1f} h in {at}", time.monotonic())


def start_twice(room: Room) -> Injection:
    """Start the same flow once more at a random moment."""
    since = room.choose(STARTS)
    config = room.copy(since)
    flow = room.start(config)
    at = room.anywhen(flow, STEPS[STEPS.index(since) : -1])
    began = time.monotonic()
    second = room.start(config)
    done = room.finish(flow, config, f"started again in {at}", began)
    second.wait()
    assert second.done, "".join(second.lines[-60:])
    made = [step for run in (flow, second) for step in run.steps]
    assert len(made) == len(set(made)), f"made twice: {sorted(made)}"
    return done


def add_garbage(room: Room) -> Injection:
    """Let 5 % of the log's rows be garbage."""
    values = yaml.safe_load(room.world.config.read_text())
    log = room.folder / "log"
    shutil.copytree(room.world.config.parent / values["interactions"]["path"], log)
    added = _spoil(log, room.random)
    roomy = {**values["interactions"], "path": str(log), "max_reject_share": 0.2}
    config = room.copy("pairs", interactions=roomy)
    flow = room.start(config)
    done = room.finish(flow, config, f"{added} rows of garbage in the log", time.monotonic())
    more = _refused_rows(config) - _refused_rows(room.world.config)
    assert more == added, f"{added} rows of garbage, but {more} more rejects"
    return replace(done, changed=("rejects", "log quality"))


FAULTS: dict[str, Callable[[Room], Injection]] = {
    "SIGKILL of a driver": kill_driver,
    "SIGKILL of a rank": kill_rank,
    "disk full": fill_disk,
    "SIGKILL of the flow process": kill_flow,
    "damaged shard": damage_shard,
    "same flow started twice": start_twice,
    "garbage in the log": add_garbage,
    "clock set back": set_clock_back,
    "SIGKILL of the launcher": kill_launcher,
    "SIGKILL of an executor": kill_executor,
    "SIGKILL of a task worker": kill_task_worker,
    "SIGKILL of the Prefect worker": kill_worker,
    "read-only workspace": make_read_only,
    "network cut": cut_network,
    "cancelled on two hosts": cancel_on_two_hosts,
    "damaged checkpoint": damage_checkpoint,
    "damaged manifest": damage_manifest,
    "damaged index": damage_index,
}
"""In the order in which they come; the first are those that need nothing beside a flow run."""


def _kill(room: Room, role: str, steps: Sequence[str]) -> Injection:
    step = room.choose(steps, role)
    config = room.copy("gate_set" if step == "embeddings" else step)
    flow = room.start(config)
    return _hit(room, flow, config, room.moment(flow, role, step), f"{role} in {step}")


def _hit(room: Room, flow: Flow, config: Path, victims: list[psutil.Process], what: str) -> Injection:
    """SIGKILL one of some processes."""
    if victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            room.random.choice(victims).kill()
    else:
        what += " (it had ended)"
    now = time.monotonic()
    return room.finish(flow, config, f"{what}, {now - flow.started:.1f} s after the start", now, missed=not victims)


def _executors(cluster: Cluster) -> list[psutil.Process]:
    return [process for worker in cluster.workers for process in process_tree(worker) if _is_executor(process)]


def _is_executor(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # it ended meanwhile
        return "CoarseGrainedExecutorBackend" in " ".join(process.cmdline())
    return False


def _refused_rows(config: Path) -> int:
    """Rows of the log that the newest snapshot of pairs counts as refused."""
    figures = ArtifactStore(str(config.parent / "workspace")).manifests("pairs")[-1]["figures"]
    return sum(figures["rejects"].values())


def _merged(room: Room, section: str, **settings: object) -> dict[str, object]:
    return {**yaml.safe_load(room.world.config.read_text())[section], **settings}


@contextlib.contextmanager
def _mounted(place: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _mount(place: Path, mode: str) -> int:
    return subprocess.run(["mount", "-o", f"remount,{mode}", str(place)], capture_output=True, check=False).returncode


def _moved_out(room: Room, place: Path, done: Injection) -> Injection:
    """The finished workspace on a disk that stays."""
    kept = room.folder / "kept"
    shutil.copytree(done.config.parent, kept)
    return replace(done, config=kept / done.config.name)


def _used(folder: Path) -> int:
    return sum(-(-file.stat().st_size // 4096) * 4096 for file in folder.rglob("*") if file.is_file())


def _checkpoints(config: Path) -> list[Path]:
    """Whole checkpoints of stages in work, oldest first."""
    found = (config.parent / "workspace").glob("**/step-*/manifest.json")
    return sorted((path.parent for path in found), key=lambda path: int(path.name.removeprefix("step-")))


def _flip(path: Path, chosen: random.Random, at: int | None = None) -> str:
    """Flip a bit of a byte, of any or of one; says which."""
    data = bytearray(path.read_bytes())
    place = chosen.randrange(len(data)) if at is None else at
    data[place] ^= 1 << chosen.randrange(8)
    path.write_bytes(data)
    return f"byte {place} of {path.name}"


def _spoil(log: Path, chosen: random.Random) -> int:
    """Put garbage between the rows of a log, 5 % of them; how many rows were added."""
    added = 0
    for path in sorted(log.rglob("*.jsonl")):
        lines = path.read_text().splitlines()
        rows = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        for _ in range(round(len(lines) * GARBAGE)):
            spoiled = chosen.choice([_broken, _nameless, _timeless])(chosen.choice(rows))
            lines.insert(chosen.randrange(len(lines) + 1), spoiled)
            added += 1
        path.write_text("\n".join(lines) + "\n")
    return added


def _broken(row: dict[str, object]) -> str:
    return json.dumps(row)[:-9]


def _nameless(row: dict[str, object]) -> str:
    return json.dumps({**row, "user_id": None, "event_id": None})


def _timeless(row: dict[str, object]) -> str:
    return json.dumps({**row, "ts": "yesterday", "event_id": None})
