"""Labs that fail to start, break in the middle, or mend themselves: what is left. Each test has its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.api.errors import MachineError, UsageError
from tests.net.test_lab import SERVICE, WEB, answer
from topo.components import ComponentError
from topo.lab import ClusterConfig, Lab

NODE1 = "192.168.49.2"
TWO = ClusterConfig(nodes=2)


def test_a_component_that_cannot_start_fails_the_lab_with_its_last_words_and_leaves_nothing() -> None:
    before = places()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 6653))
        taken.listen()
        with pytest.raises(ComponentError, match=r"kubeproxy ended while starting: .*in use"):
            Lab(TWO).start()
    assert places() == before
    with Lab(TWO) as lab:
        lab.settle()
        with pytest.raises(UsageError, match="a lab runs in this sandbox already"):
            Lab(TWO).start()
        lab.settle()
    assert places() == before


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topo.lab.PROGRAMS", {"no-such-nft": "nftables"})
    before = places()
    with pytest.raises(MachineError, match="no-such-nft is missing: apt-get install nftables"):
        Lab(TWO).start()
    assert places() == before


def test_a_lab_with_offload_answers_through_segments_of_any_size() -> None:
    with Lab(ClusterConfig(nodes=1, clients=2, offload=True)) as lab:
        lab.apply(WEB, SERVICE)
        lab.settle()
        big = lab.outside("client2").run(
            ["curl", "-sS", "-m", "5", "-d", f"msg={'x' * 100_000}", f"http://{NODE1}:30080/echo"]
        )
        assert big.returncode == 0, big.stderr
        assert "tcp-segmentation-offload: on" in lab.outside().run("ethtool -k eth0").stdout


def test_an_exception_in_the_middle_of_a_lab_leaves_nothing() -> None:
    before = places()
    with pytest.raises(RuntimeError, match="in the lesson"), Lab(TWO):
        raise RuntimeError("in the lesson")
    assert places() == before


def places() -> tuple[list[str], list[str], list[str]]:
    """Processes, namespaces and links of the sandbox (Open vSwitch's own taps end with it)."""
    ours = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    links = subprocess.run(["ip", "-br", "link", "show", "type", "veth"], capture_output=True, text=True)
    processes = [line for line in ours.stdout.splitlines() if not line.startswith("ps ")]
    return processes, [path.name for path in Path("/run/netns").iterdir()], links.stdout.split()


def test_a_supervised_lab_starts_again_what_dies_and_says_so() -> None:
    said = Said()
    with Lab(TWO, log=said, supervised=True) as lab:
        lab.apply(WEB, SERVICE)
        lab.settle()
        kill("controller.kubeproxy.app")
        kill("ovs-vswitchd")
        said.wait(lambda line: line.startswith("kubeproxy ended by signal 9"))
        said.wait(lambda line: line.startswith("ovs-vswitchd ended; starting it again"))
        lab.components.wait_ready("kubeproxy")
        assert answers(lab)
        kill("ovsdb-server")
        kill("controller.api.server")
        said.wait(lambda line: line.startswith("ovsdb-server ended; starting it again"))
        said.wait(lambda line: line.startswith("apiserver ended by signal 9"))
        lab.components.wait_ready("apiserver")
        assert answers(lab)
        lab.client.patch("Deployment", "web", {"spec": {"replicas": 3}})
        lab.settle()  # a new pod's port needs the database
        assert answers(lab)


def kill(program: str) -> None:
    """End the lab's process with this word in its command line."""
    lines = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout.splitlines()
    (victim,) = (line for line in lines if program in line.split()[1:4])
    os.kill(int(victim.split()[0]), signal.SIGKILL)


def answers(lab: Lab) -> bool:
    """Whether the Service answers again, after the time that a switch without flows needs."""
    return any(answer(lab, NODE1).startswith("web-") for _ in range(100))


class Said:
    """What the lab logged, with a way to wait for it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._news = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._news:
            self._lines.append(line)
            self._news.notify_all()

    def wait(self, wanted: Callable[[str], bool]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: any(map(wanted, self._lines)), 20), self._lines
