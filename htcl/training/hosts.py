"""Where ranks run: this host, or those of a hostfile."""

from __future__ import annotations

import re
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from htcl.config import TrainingConfig
from htcl.errors import HTCLError

LOCAL = "127.0.0.1"
HERE = (LOCAL, "localhost")
# A cancelled run sends SIGTERM to all that it has started: ssh must stay to carry the end to its agent, and its answer.
SSH = ["sh", "-c", 'trap "" TERM; exec "$@"', "sh"]
SSH += ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
SSH += ["-o", "ServerAliveInterval=3", "-o", "ServerAliveCountMax=3"]
"""A host that is gone is noticed within 10 seconds; nobody is there to type a password."""
AGENT = ["-u", "-m", "htcl.training.agent"]
_LINE = re.compile(r"(\S+)(?:\s+slots=(\d+))?")


@dataclass(frozen=True)
class Host:
    """A host and how many ranks it runs."""

    name: str
    slots: int

    @property
    def remote(self) -> bool:
        """Whether it is reached by ssh."""
        return self.name not in HERE

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return self.name if self.remote else socket.gethostname()

    @property
    def command(self) -> list[str]:
        """What starts its agent; Python lies there where it lies here."""
        agent = [sys.executable, *AGENT]
        return [*SSH, self.name, shlex.join(agent)] if self.remote else agent


def training_hosts(training: TrainingConfig) -> list[Host]:
    """The hosts of the hostfile in its order, or this one.

    Raises:
        HTCLError: when the hostfile cannot be read or has a line that is not `HOST slots=N`.
    """
    if not training.hostfile:
        return [Host(LOCAL, training.processes)]
    try:
        lines = Path(training.hostfile).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise HTCLError(f"training.hostfile: cannot read {training.hostfile}: {error.strerror}") from None
    hosts: list[Host] = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None or match[2] == "0" or match[1] in {host.name for host in hosts}:
            raise HTCLError(
                f"training.hostfile: line {number} of {training.hostfile} is {text!r}; "
                "write `HOST slots=N`, each host once"
            )
        hosts.append(Host(match[1], int(match[2] or 1)))
    if len(hosts) > 1 and not hosts[0].remote:
        raise HTCLError(
            f"training.hostfile: {training.hostfile} names {hosts[0].name} first, which the other hosts cannot reach; "
            "give the name by which they know it"
        )
    if not hosts:
        raise HTCLError(f"training.hostfile: {training.hostfile} names no host; write a line `HOST slots=N` for each")
    return hosts
