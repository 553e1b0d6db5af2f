"""A running lab from a second terminal: in the background, entered, listed, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.api.errors import UsageError
from tests.net.leaks import Chain, nothing_left, said, until
from tests.net.test_sandbox import RUNNING, small
from topo import sandbox


@pytest.fixture
def lab() -> Iterator[Chain]:
    with nothing_left() as start:
        chain = start(small())
        chain.reach(RUNNING)
        yield chain
        chain.command.terminate()
        chain.end()


def run_in(name: str | None, *argv: str) -> subprocess.CompletedProcess[str]:
    """What ./lab exec does, in a process of its own as there."""
    code = "import sys; from topo import sandbox; sys.exit(sandbox.join(sys.argv[1] or None, sys.argv[2:]))"
    return subprocess.run([sys.executable, "-c", code, name or "", *argv], capture_output=True, text=True)


def test_a_joined_command_sees_the_labs_links_processes_and_switch(lab: Chain) -> None:
    assert "small0" in run_in("small", "ip", "-br", "link").stdout
    assert "ovs-vswitchd" in run_in("small", "ps", "-e").stdout
    assert run_in("small", "ip", "netns", "exec", "small", "ip", "-br", "link").stdout.count("small1") == 1
    assert run_in("small", "ovs-vsctl", "get", "Open_vSwitch", ".", "ovs_version").returncode == 0


def test_a_joined_command_keeps_directory_input_and_exit_status(lab: Chain) -> None:
    assert run_in("small", "pwd").stdout.strip() == str(Path.cwd())
    assert run_in("small", "sh", "-c", "exit 9").returncode == 9
    assert run_in("small", "sh", "-c", "kill -TERM $$").returncode == 143
    missing = run_in("small", "no-such-program")
    assert (missing.returncode, missing.stderr) == (127, "podwire: no program 'no-such-program'\n")


def test_a_joined_command_ends_with_the_one_who_waits_for_it(lab: Chain) -> None:
    code = "from topo import sandbox; sandbox.join('small', ['sleep', '4242'])"
    waiting = subprocess.Popen([sys.executable, "-c", code])
    until("the command runs", lambda: "sleep 4242" in run_in("small", "ps", "-eo", "args").stdout)
    waiting.kill()
    waiting.wait()
    until("it has ended", lambda: "sleep 4242" not in run_in("small", "ps", "-eo", "args").stdout)


def test_a_joined_command_ends_with_the_lab(lab: Chain) -> None:
    code = "import sys; from topo import sandbox; sys.exit(sandbox.join('small', ['sleep', '4242']))"
    waiting = subprocess.Popen([sys.executable, "-c", code])
    until("the command runs", lambda: "sleep 4242" in run_in("small", "ps", "-eo", "args").stdout)
    lab.kill("process 1")
    assert waiting.wait(20) == 137


def test_stop_ends_a_lab_in_order() -> None:
    with nothing_left() as start:
        lab = start(small())
        lab.reach(RUNNING)
        assert sandbox.stop("small").name == "small"
        with pytest.raises(UsageError, match="no lab named 'small' runs"):
            sandbox.stop("small")
        assert lab.end() == 143
    assert "stopped in order" in lab.output


def test_a_lab_in_the_background_is_up_when_the_command_returns() -> None:
    with nothing_left() as start:
        chain = start(small("run", "detach"))
        assert chain.end() == 0
        assert "switch" in chain.output  # the log is shown until the lab is ready
        (lab,) = (one for one in sandbox.labs() if one.name == "small")
        assert lab.ready
        assert "switch" in Path(lab.log).read_text()
        assert os.getpgid(lab.pid) != os.getpgid(0)
        sandbox.stop("small")


def test_a_background_lab_that_fails_shows_why() -> None:
    with nothing_left() as start:
        chain = start(small("fail", "detach"))
        assert chain.end() == 1
    assert "RuntimeError: main fails" in chain.output


def test_an_interrupted_background_start_leaves_nothing() -> None:
    with nothing_left() as start:
        chain = start(small("run", "detach"))
        chain.reach(said("main"))
        chain.command.send_signal(signal.SIGINT)
        chain.end()
        for lab in sandbox.labs():  # it was ready before the interrupt came
            if lab.name == "small":
                sandbox.stop("small")


@pytest.mark.parametrize("member", ["outside", "process 1", "lab"])
def test_kill_9_of_one_process_of_a_background_lab_leaves_nothing(member: str) -> None:
    with nothing_left() as start:
        assert start(small("run", "detach")).end() == 0
        (lab,) = (one for one in sandbox.labs() if one.name == "small")
        stat = Path(f"/proc/{lab.pid}/stat").read_text()
        children = Path(f"/proc/{lab.pid}/task/{lab.pid}/children").read_text()
        chain = {"process 1": lab.pid, "outside": int(stat.split()[3]), "lab": int(children.split()[0])}
        os.kill(chain[member], signal.SIGKILL)
