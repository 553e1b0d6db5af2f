"""One client port used again at once, while conntrack still holds the connection before.

By a Service's address the userspace conntrack of Open vSwitch 3.1 gives it another source port each time; to
the pod's own address it does not. Every connection must work, and at once.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.net.test_packets import of_peer
from tests.packets import pod, service
from topo.config import ClusterConfig
from topo.lab import Lab

PORTS, ROUNDS = range(20001, 20021), 4
"""In turn: right after its end a connection's port is the client's own for a moment (LAST_ACK)."""
WAYS = [("alice", "10.96.0.50:80", 0), ("client1", "node1:30080", 0), ("alice", "web-0:8080", 100)]
"""The last with ports of its own: the pod sees the same address and port by the Service."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ClusterConfig(nodes=2, clients=1)) as lab:
        lab.apply(pod("alice", "node1"), pod("web-0", "node2", "web"), service("web", "10.96.0.50", 30080))
        lab.settle()
        yield lab


@pytest.mark.parametrize(("sender", "to", "above"), WAYS)
def test_a_port_is_used_again_and_again(lab: Lab, sender: str, to: str, above: int) -> None:
    host = lab.outside() if sender == "client1" else lab.pod(sender)
    word, _, port = to.partition(":")
    address = {"node1": str(lab.node(1).ip), "web-0": str(lab.pod("web-0").ip)}.get(word, word)
    longest = 0.0
    for source in list(PORTS) * ROUNDS:
        began = time.monotonic()
        with host.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.settimeout(5)
            sock.bind(("0.0.0.0", source + above))
            sock.connect((address, int(port)))
            # the server ends it, so that the client's port is free at once and the pod's socket lingers
            sock.sendall(b"GET /clientip HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
            answer = b""
            while more := sock.recv(4096):
                answer += more
        assert of_peer(answer.decode().rpartition("\r\n")[2])
        longest = max(longest, time.monotonic() - began)
    assert longest < 0.9, "a SYN was lost or refused, and came again after a second"
