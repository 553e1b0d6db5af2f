"""A link on the way that is smaller than the ends think: "fragmentation needed" finds its way back.

The fabric is the router that says it, about packets whose addresses the bridges have translated. When it
does not reach who sent the packet, translated back, the transfer hangs.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.net.test_packets import address_of, get, host, routed, scene
from tests.packets import service
from topo.lab import Lab
from topo.netns import Netns
from topo.plan import FABRIC

NARROW = 1300
IP_MTU = 14  # of Linux' <linux/in.h>: what a connected socket believes of its path


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with scene() as lab:
        away = service(
            "away", "10.96.0.81", 30181, app="far", balancer="203.0.113.81", externalIPs=["192.0.2.81"]
        )
        lab.apply(away)
        lab.client.patch("Service", "away", {"status": away["status"]}, "default", subresource="status")
        lab.settle()
        yield lab


@contextlib.contextmanager
def narrow(lab: Lab, name: str) -> Iterator[None]:
    """What the fabric sends to a node and its pods, or to client1, may be no larger than this.

    By its routes: a smaller link would silently lose what comes from the other end.
    """
    fabric = Netns.open(FABRIC)
    wanted = [str(lab.host(name).ip)] + ([f"10.244.{name[-1]}.0/24"] if name != "client1" else [])

    def ip(*arguments: str) -> str:
        process = fabric.popen(["ip", "route", *arguments], stdout=subprocess.PIPE, text=True)
        said, _ = process.communicate(timeout=10)
        assert process.returncode == 0
        return str(said)

    routes = [ip("show", "exact", destination).split() for destination in wanted]
    for route in routes:
        ip("replace", *route, "mtu", "lock", str(NARROW))
    try:
        yield
    finally:
        for route in routes:
            ip("replace", *route)


ROWS = """
a pod is told on the way to a pod | node2 | pod/alice | pod/far-0:8080
a pod is told on the way to a ClusterIP | node2 | pod/alice | svc/far:80
a node is told on the way to a ClusterIP | node2 | node1 | svc/far:80
a pod is told on the way to a NodePort of another node | node2 | pod/alice | node3:30082
a pod is told on the way to a NodePort of its own node | node2 | pod/alice | node1:30082
a node is told on the way to its own NodePort by localhost | node2 | node3 | localhost:30082
a client outside is told on the way from one node to the other | node2 | client1 | node1:30082
a client outside is told on the way to a balancer's address | node2 | client1 | lb/away@node1:80
a client outside is told on the way to an external IP | node2 | client1 | ext/away@node3:80
a pod is told on the way to a balancer's address | node2 | pod/bob | lb/away:80
a pod is told on the way to a hostNetwork endpoint | node2 | pod/alice | svc/host:80
an endpoint is told on the way to a client of a NodePort | client1 | client1 | node2:30082
an endpoint is told on the way to a client of another node's NodePort | client1 | client1 | node1:30082
an endpoint is told on the way to a client of policy Local | client1 | client1 | node2:30092
an endpoint is told on the way to a client of a balancer's address | client1 | client1 | lb/away@node3:80
a pod is told on the way to the outside world | client1 | pod/alice | client1:8080
"""


@pytest.mark.parametrize(
    ("link", "sender", "to"),
    [pytest.param(*row[1:], id=row[0]) for row in (line.split(" | ") for line in ROWS.strip().splitlines())],
)
def test_row(lab: Lab, link: str, sender: str, to: str) -> None:
    client = host(lab, sender)
    word, _, port = to.rpartition(":")
    word, _, via = word.partition("@")
    address = address_of(lab, word)
    for end in (sender.removeprefix("pod/"), "node2", "far-0", "web-1"):
        flush = Netns.open(end).popen(["ip", "route", "flush", "cache"])  # what the rows before have taught
        assert flush.wait(timeout=10) == 0
    with (
        narrow(lab, link),
        routed(lab, address, via) if via else contextlib.nullcontext(),
        client.socket(socket.AF_INET, socket.SOCK_STREAM) as sock,
    ):
        sock.settimeout(5)
        sock.connect((address, int(port)))
        text = "x" * 4000  # there and back
        answer = get(sock, f"/echo?msg={text}")
        assert answer in (text, "client1")
        if "endpoint" not in to and link != sender:
            assert sock.getsockopt(socket.IPPROTO_IP, IP_MTU) == NARROW
            return
        peer, _, peer_port = get(sock, "/clientip").rpartition(":")
        pod = lab.pod(get(sock, "/hostname"))
        assert peer_port
        assert re.search(rf"\bmtu {NARROW}\b", pod.run(f"ip route get {peer}").stdout)
