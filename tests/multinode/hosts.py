"""Two hosts on one machine: network and UTS namespaces with an sshd each, joined by a cable. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ADDRESSES = ("10.77.0.1", "10.77.0.2")
SSHD = "/usr/sbin/sshd"

_SSHD_CONFIG = """\
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
"""
_SSH_CONFIG = """\
Host node0
  HostName {0}
Host node1
  HostName {1}
Host *
  User root
  IdentityFile {folder}/key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""


def why_not() -> str:
    """Why two hosts cannot be made here; empty where they can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    missing = [tool for tool in ("ip", "ssh", "ssh-keygen", "unshare") if shutil.which(tool) is None]
    missing += [] if Path(SSHD).exists() else ["sshd"]
    if missing:
        return f"needs {', '.join(missing)} (Debian: iproute2 openssh-server)"
    probe = f"htcl-probe-{os.getpid()}"  # pytest's workers all ask at the same time
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return f"network namespaces are not allowed: {made.stderr.strip()}" if made.returncode else ""


@dataclass(frozen=True)
class TwoHosts:
    """The names of both namespaces, and the folder with keys, configuration and a `ssh` that uses them."""

    names: tuple[str, str]
    folder: Path

    @property
    def hostfile(self) -> Path:
        """One rank a host."""
        return self.folder / "hostfile"

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Run a Python script on node0, in a session of its own."""
        return subprocess.Popen(
            [*self.inside, sys.executable, "-c", script, *arguments],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def inside(self) -> tuple[str, ...]:
        """What stands before a command that runs on node0."""
        renamed = ("unshare", "--uts", "sh", "-c", 'hostname node0; exec "$@"', "sh")
        return ("ip", "netns", "exec", self.names[0], *renamed)

    @property
    def environment(self) -> dict[str, str]:
        """What a process on node0 needs to reach node1."""
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        return {"PATH": path, "GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1"}

    def pids(self, word: str, host: int | None = None) -> list[int]:
        """Processes of a host, or of both, whose command line has a word."""
        names = self.names if host is None else (self.names[host],)
        found = []
        for name in names:
            for pid in _output("ip", "netns", "pids", name).split():
                with contextlib.suppress(OSError):
                    if word in (Path("/proc") / pid / "cmdline").read_text():
                        found.append(int(pid))
        return found

    def cut(self) -> None:
        """Pull the cable."""
        _run("ip", "-n", self.names[1], "link", "set", "eth0", "down")

    def mend(self) -> None:
        """Put it back."""
        _run("ip", "-n", self.names[1], "link", "set", "eth0", "up")


@contextlib.contextmanager
def two_hosts(folder: Path, hidden: Path | None = None) -> Iterator[TwoHosts]:
    """Make both hosts, which share the whole file system but for `hidden`, of which node1 has an empty one."""
    mark = uuid.uuid4().hex[:6]
    hosts = TwoHosts((f"htcl-{mark}-0", f"htcl-{mark}-1"), folder)
    servers: list[subprocess.Popen[bytes]] = []
    try:
        _lay_cable(hosts)
        _write_keys(folder)
        for number, name in enumerate(hosts.names):
            servers.append(_start_sshd(folder, name, number, hidden if number else None))
        _await_ssh(hosts)
        yield hosts
    finally:
        for name in hosts.names:
            for pid in _output("ip", "netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
        for server in servers:
            server.wait()


def _lay_cable(hosts: TwoHosts) -> None:
    for name in hosts.names:
        _run("ip", "netns", "add", name)
    one, other = hosts.names
    _run("ip", "link", "add", "htcl0", "netns", one, "type", "veth", "peer", "name", "htcl1", "netns", other)
    for number, (name, address) in enumerate(zip(hosts.names, ADDRESSES, strict=True)):
        _run("ip", "-n", name, "link", "set", f"htcl{number}", "name", "eth0")
        _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _run("ip", "-n", name, "link", "set", device, "up")
        # `ip netns exec` lays this over /etc/hosts: ranks look up each other's names.
        place = Path("/etc/netns") / name
        place.mkdir(parents=True)
        names = "".join(f"{address} node{number}\n" for number, address in enumerate(ADDRESSES))
        (place / "hosts").write_text(f"127.0.0.1 localhost\n{names}")


def _write_keys(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    for name in ("key", "host_key"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    (folder / "ssh_config").write_text(_SSH_CONFIG.format(*ADDRESSES, folder=folder))
    wrapper = folder / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    (folder / "hostfile").write_text("node0 slots=1\nnode1 slots=1\n")
    Path("/run/sshd").mkdir(exist_ok=True)


def _start_sshd(folder: Path, name: str, number: int, hidden: Path | None) -> subprocess.Popen[bytes]:
    config = folder / f"sshd{number}.conf"
    config.write_text(_SSHD_CONFIG.format(address=ADDRESSES[number], folder=folder))
    private = f"mount -t tmpfs tmpfs {hidden}; " if hidden else ""
    inside = f"hostname node{number}; {private}exec {SSHD} -D -e -f {config}"
    log = (folder / f"sshd{number}.log").open("wb")
    command = ["ip", "netns", "exec", name, "unshare", "--uts", "--mount", "sh", "-c", inside]
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _await_ssh(hosts: TwoHosts) -> None:
    for node in ("node0", "node1"):
        command = ["ip", "netns", "exec", hosts.names[0], str(hosts.folder / "bin" / "ssh"), node, "hostname"]
        for _ in range(50):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.stdout.strip() == node:
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"{node} does not answer: {done.stderr}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
