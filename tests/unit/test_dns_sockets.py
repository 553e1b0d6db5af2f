"""Real sockets on the loopback: clients that are slow, lie, or ask much; dig; the web pages beside."""

from __future__ import annotations

import asyncio
import contextlib
import random
import select
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import dns.message
import dns.query
import pytest

from controller.dns import sockets
from controller.dns.responder import Asked
from controller.dns.sockets import Listener, Pages
from tests.dns_rows import ROWS
from tests.dns_wire_kit import ask_by_dig
from tests.unit.test_dns_wire import COREFILE, _many, query, responder

NAME = "svc1.testns.svc.cluster.local"
LOCAL = "127.0.0.1"


class Running:
    """A server on a free port of the loopback, in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._up = threading.Event()
        self._thread.start()
        assert self._up.wait(10)

    def _run(self) -> None:
        async def start() -> None:
            answer = responder(COREFILE, *_many(3000))
            self.listener = await Listener(
                0,
                lambda data, asked: answer.respond(data, Asked(53, asked.tcp, asked.peer)),
                address=LOCAL,
            ).start()
            pages = {"/metrics": lambda: (200, answer.metrics.text()), "/ready": lambda: (503, "kubernetes")}
            self.pages = await Pages(0, pages, address=LOCAL).start()
            self.port = self.listener.number

        self._loop.run_until_complete(start())
        self._up.set()
        self._loop.run_forever()
        self.listener.close()
        self.pages.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def tcp(self) -> socket.socket:
        return socket.create_connection((LOCAL, self.port), timeout=10)


@pytest.fixture
def server() -> Iterator[Running]:
    running = Running()
    yield running
    running.stop()


def answers(server: Running) -> bool:
    found = dns.query.udp(dns.message.from_wire(query(NAME)), LOCAL, port=server.port, timeout=10)
    return str(found.answer[0][0].to_text()) == "10.96.10.1"


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def _is_cut(sock: socket.socket) -> bool:
    """Waits until the other side has ended it."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def receive(sock: socket.socket) -> bytes:
    """One framed answer; "" at the end."""
    head = sock.recv(2, socket.MSG_WAITALL)
    return sock.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL) if head else b""


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_dig_sees_every_row(server: Running, tcp: bool) -> None:
    questions = [(row.name, row.type) for row in ROWS]
    told = ask_by_dig(_run, LOCAL, questions, port=server.port, tcp=tcp)
    for row, (rcode, lines) in zip(ROWS, told, strict=True):
        assert (rcode, lines) == (row.rcode, tuple(sorted(row.answers))), row.says


def test_many_questions_on_one_connection_that_come_byte_by_byte(server: Running) -> None:
    with server.tcp() as sock:
        for byte in framed(query(NAME, id=1)) + framed(query(NAME, id=2)):
            sock.sendall(bytes([byte]))
        assert [receive(sock)[:2] for _ in range(2)] == [b"\0\1", b"\0\2"]


def test_the_largest_question_and_the_largest_answer(server: Running) -> None:
    with server.tcp() as sock:
        sock.sendall(framed(query(NAME) + random.Random(1).randbytes(65535 - len(query(NAME)))))
        assert receive(sock)[3] & 15 == 1  # FORMERR: what follows the question is no record
        sock.sendall(framed(query("many.testns.svc.cluster.local")))
        assert 48_000 < len(receive(sock)) <= 65535
    assert answers(server)


def test_silent_and_slow_clients_are_cut_off_and_nobody_else_waits(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_IDLE", 0.2)
    with server.tcp() as silent, server.tcp() as slow:
        slow.sendall(b"\xff\xff" + b"x" * 100)
        assert answers(server)
        assert _is_cut(silent)
        assert _is_cut(slow)
    assert answers(server)


def test_a_client_that_asks_and_never_reads_is_cut_off(server: Running) -> None:
    question = framed(query("many.testns.svc.cluster.local"))
    got = 0
    with server.tcp() as sock, contextlib.suppress(OSError):
        cut = select.poll()
        cut.register(sock, 0)  # waits for the end alone, however much is there to read
        for _ in range(2_000):
            sock.sendall(question)
        assert cut.poll(10_000)
        while data := sock.recv(1 << 20):
            got += len(data)
    assert got < 2_000 * 48_000
    assert answers(server)


def test_more_connections_than_are_kept_cost_the_oldest(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_MAX_CONNECTIONS", 5)
    held = [server.tcp() for _ in range(6)]
    try:
        held[5].sendall(framed(query(NAME)))
        assert receive(held[5])
        assert _is_cut(held[0])
        assert answers(server)
    finally:
        for sock in held:
            sock.close()


def test_what_is_no_question_ends_the_connection(server: Running) -> None:
    with server.tcp() as sock:
        sock.sendall(framed(b"GET / HTTP/1.1"[:11]))
        assert _is_cut(sock)
    assert answers(server)


def test_the_pages_beside_it(server: Running) -> None:
    base = f"http://{LOCAL}:{server.pages.number}"
    assert answers(server)
    with urllib.request.urlopen(f"{base}/metrics", timeout=10) as found:
        assert b"coredns_dns_requests_total" in found.read()
    for path, code in (("/ready", 503), ("/nothing", 404)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{base}{path}", timeout=10)
        assert refused.value.code == code
        refused.value.close()
    with socket.create_connection((LOCAL, server.pages.number), timeout=10) as sock:
        sock.sendall(b"\r\n\r\n" + b"x" * 10_000)
        while sock.recv(4096):
            pass
