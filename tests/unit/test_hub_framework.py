"""os-ken and Ryu on our hub, in a process of their own, with a switch that is a socket of ours.

The same questions to both: what broke in os-ken's own hub, and what Ryu needed eventlet for.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.kubeproxy import ryu_venv
from tests.unit.fake_switch import BARRIER_REPLY, ERROR, FakeSwitch, message

REPOSITORY = Path(__file__).resolve().parents[2]

PROGRAM = """
import signal, sys, threading
from controller.kubeproxy import backend, hub
from controller.kubeproxy.channel import *

def deliver(heard):
    name = type(heard).__name__
    if isinstance(heard, Connected):
        print(name, heard.datapath_id, sorted(heard.ports.items()), flush=True)
        heard.channel.expect(77)
    elif isinstance(heard, PortChanged):
        print(name, heard.name, heard.number, flush=True)
        if heard.name == "bad":
            raise ValueError("a handler that fails")
    elif isinstance(heard, BarrierAnswered):
        print(name, heard.xid, "threads", threading.active_count(), flush=True)
    elif isinstance(heard, Described):
        print(name, heard.xid, heard.message[16:].hex(), heard.more, flush=True)
    elif isinstance(heard, Refused):
        print(name, heard.xid, heard.error, heard.data.hex(), flush=True)
    else:
        print(name, flush=True)

stop = threading.Event()
signal.signal(signal.SIGINT, lambda *_: stop.set())
framework = backend.load(sys.argv[1])
server = backend.listen(framework, ("127.0.0.1", 0), deliver)
print(server.server.getsockname()[1], "eventlet" in sys.modules, flush=True)
stop.wait()
"""


class Controller:
    """The program above, and the lines it prints."""

    def __init__(self, interpreter: str, backend: str) -> None:
        self.process = subprocess.Popen(
            [interpreter, "-c", PROGRAM, backend],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        port, self.eventlet = self.line().split()
        self.address = ("127.0.0.1", int(port))

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise EOFError(self.process.communicate()[1])
        return line

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=10)
        return self.process.returncode, errors


@pytest.fixture(params=["os-ken", "ryu"])
def controller(request: pytest.FixtureRequest) -> Iterator[Controller]:
    interpreter = sys.executable if request.param == "os-ken" else str(ryu_venv.install())
    running = Controller(interpreter, request.param)
    yield running
    running.process.kill()
    running.process.communicate()


@pytest.fixture
def switch(controller: Controller) -> Iterator[Callable[[], FakeSwitch]]:
    made: list[FakeSwitch] = []

    def connect() -> FakeSwitch:
        made.append(FakeSwitch(controller.address, 7, {1: "node7-up", 2: "node7-host"}))
        made[-1].handshake()
        assert controller.line() == "Connected 7 [('node7-host', 2), ('node7-up', 1)]"
        return made[-1]

    yield connect
    for one in made:
        one.close()


def test_no_eventlet_is_imported(controller):
    assert controller.eventlet == "False"


def test_ports_that_come_and_go_are_told_by_name(controller, switch):
    one = switch()
    one.port_status(0, 5, "node7-p3")
    assert controller.line() == "PortChanged node7-p3 5"
    one.port_status(1, 5, "node7-p3")
    assert controller.line() == "PortChanged node7-p3 None"


def test_a_reply_we_asked_for_comes_undecoded_in_all_its_parts(controller, switch):
    one = switch()
    one.reply(77, 1, b"\xff\xfe\x01", more=True)  # no decoder would survive this
    one.reply(77, 1, b"\x02\x03")
    assert controller.line() == "Described 77 fffe01 True"
    assert controller.line() == "Described 77 0203 False"


def test_an_error_names_itself_and_carries_the_refused_message(controller, switch):
    one = switch()
    one.send(message(ERROR, 42, bytes([0, 2, 0, 0]) + b"\x06\x0e" + bytes(14)))
    assert controller.line().startswith("Refused 42 OFPET_BAD_ACTION(2) OFPBAC_BAD_TYPE(0) 060e00")


def test_a_dead_switch_is_reported_and_no_thread_is_left(controller, switch):
    counts = []
    for number in range(4):
        one = switch()
        one.send(message(BARRIER_REPLY, number))
        counts.append(controller.line())
        one.close()
        assert controller.line() == "Disconnected"
    last = [int(line.rsplit(None, 1)[1]) for line in counts]
    assert max(last[1:]) <= last[0] + 2, last  # the thread of the connection before may be ending just now


def test_an_exception_in_a_handler_ends_the_process_with_a_traceback(controller, switch):
    switch().port_status(0, 5, "bad")
    code, errors = controller.end()
    assert code == 1
    assert "ValueError: a handler that fails" in errors
    assert "Traceback" in errors


def test_ctrl_c_ends_the_process_at_once_with_a_switch_connected(controller, switch):
    switch()
    controller.process.send_signal(signal.SIGINT)
    assert controller.process.wait(timeout=2) == 0


def test_a_peer_that_does_not_speak_openflow_is_sent_away_and_harms_no_one(controller, switch):
    stranger = FakeSwitch(controller.address, 1, {})
    try:
        stranger.send(b"GE\x00\x10 / HTTP/1.1\r\n")
        stranger.drain()
    finally:
        stranger.close()
    switch()


def test_a_switch_without_openflow_1_5_is_told_so_and_sent_away(controller, switch):
    old = FakeSwitch(controller.address, 1, {}, versions=1 << 4)
    try:
        answers = old.drain()
    finally:
        old.close()
    assert any(kind == ERROR and b"no compatible version" in body for kind, body in answers)
    switch()
