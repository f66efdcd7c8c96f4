"""A hostfile says where ranks run; every host has a command that starts its agent."""

import shlex
import sys

import pytest

from htcl.config import TrainingConfig
from htcl.errors import HTCLError
from htcl.training.hosts import LOCAL, Host, training_hosts

AGENT = ["-u", "-m", "htcl.training.agent"]


def read(tmp_path, text, **settings):
    (tmp_path / "hosts").write_text(text, encoding="utf-8")
    return training_hosts(TrainingConfig(hostfile=str(tmp_path / "hosts"), **settings))


def test_without_a_hostfile_the_ranks_run_here():
    assert training_hosts(TrainingConfig(processes=3)) == [Host(LOCAL, 3)]


def test_hosts_keep_their_order_and_comments_are_left_out(tmp_path):
    text = "# müsic\n\n  zeta slots=4  # the big one\nalpha\n\tbeta\tslots=12\n#gamma slots=1\n"
    assert read(tmp_path, text, processes=7) == [Host("zeta", 4), Host("alpha", 1), Host("beta", 12)]


@pytest.mark.parametrize("line", ["b slots=0", "b slots=", "b slots=-1", "b slots=2 max=3", "b 2", "a", "a slots=3"])
def test_a_line_that_is_no_host_is_named_with_its_number(tmp_path, line):
    with pytest.raises(HTCLError) as error:
        read(tmp_path, f"# two\na slots=2\n\n{line} # why\nc\n")
    assert str(error.value) == (
        f"training.hostfile: line 4 of {tmp_path / 'hosts'} is {line!r}; write `HOST slots=N`, each host once"
    )


@pytest.mark.parametrize("text", ["", "# a slots=2\n \n"])
def test_a_hostfile_without_hosts_is_an_error(tmp_path, text):
    with pytest.raises(HTCLError, match="names no host; write a line `HOST slots=N`"):
        read(tmp_path, text)


def test_a_hostfile_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(HTCLError, match=r"training.hostfile: cannot read .*/none: No such file or directory"):
        training_hosts(TrainingConfig(hostfile=str(tmp_path / "none")))


def test_the_agent_of_this_host_is_started_as_it_is():
    assert not Host(LOCAL, 1).remote and not Host("localhost", 1).remote
    assert Host(LOCAL, 1).command == [sys.executable, *AGENT]


def test_the_agent_of_another_host_is_started_by_an_ssh_that_asks_nothing(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/my env/bin/python")
    assert Host("alpha", 1).remote
    *ssh, name, line = Host("alpha", 1).command
    assert ssh[:4] == ["sh", "-c", 'trap "" TERM; exec "$@"', "sh"]  # it stays to carry the end to the agent
    assert (ssh[4], name) == ("ssh", "alpha")
    assert {"BatchMode=yes", "ServerAliveInterval=3", "ServerAliveCountMax=3"} <= set(ssh)
    assert shlex.split(line) == ["/opt/my env/bin/python", *AGENT]  # the other side's shell reads one line
