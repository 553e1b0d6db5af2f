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
from typing import Any

import pytest

from tests.net.test_packets import address_of, family_of, get, host, of_peer, routed, scene
from tests.packets import service
from tests.packets_dual import DUAL_SCENE, dual, in_ipv6
from topo.lab import Lab
from topo.netns import Netns
from topo.plan import FABRIC

NARROW = 1300
PATH_MTU = {4: (socket.IPPROTO_IP, 14), 6: (socket.IPPROTO_IPV6, 24)}
"""IP_MTU and IPV6_MTU of Linux: what a connected socket believes of its path."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with scene(ip_family="dual", objects=DUAL_SCENE) as lab:
        addresses: dict[str, Any] = {"balancer": "203.0.113.81", "externalIPs": ["192.0.2.81"]}
        away = dual(service("away", "10.96.0.81", 30181, app="far", **addresses))
        lab.apply(away)
        lab.client.patch("Service", "away", {"status": away["status"]}, "default", subresource="status")
        lab.settle()
        yield lab


@contextlib.contextmanager
def narrow(lab: Lab, name: str, version: int) -> Iterator[None]:
    """What the fabric sends to a node and its pods, or to client1, may be no larger than this.

    By its routes: a smaller link would silently lose what comes from the other end.
    """
    fabric = Netns.open(FABRIC)
    wanted = [address_of(lab, name, version)]
    if name != "client1":
        pods = f"10.244.{name[-1]}.0/24"
        wanted.append(pods if version == 4 else in_ipv6(pods))

    def ip(*arguments: str) -> str:
        process = fabric.popen(["ip", f"-{version}", "route", *arguments], stdout=subprocess.PIPE, text=True)
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


CASES = [line.split(" | ") for line in ROWS.strip().splitlines()]


@pytest.mark.parametrize(("link", "sender", "to"), [pytest.param(*row[1:], id=row[0]) for row in CASES])
def test_row(lab: Lab, link: str, sender: str, to: str) -> None:
    try_transfer(lab, link, sender, to, 4)


IPV6_CASES = [row for row in CASES if not row[3].startswith("localhost")]  # no node ports there
WHOLE = ("pod/far-0:8080", "node2:30092", "client1:8080")
"""Where no address that is quoted is translated back on the way of a request."""


@pytest.mark.parametrize(("link", "sender", "to"), [pytest.param(*row[1:], id=row[0]) for row in IPV6_CASES])
def test_row_in_ipv6(lab: Lab, link: str, sender: str, to: str) -> None:
    """Open vSwitch 3.1's userspace conntrack corrects a TCP checksum in every related IPv6 packet that it
    gives an address back, and there is none in an ICMPv6 error: it spoils the address that is quoted."""
    if lab.ovs.datapath == "user" and to not in WHOLE:
        with pytest.raises(TimeoutError):
            try_transfer(lab, link, sender, to, 6, patience=0.5)
        return
    try_transfer(lab, link, sender, to, 6)


def try_transfer(lab: Lab, link: str, sender: str, to: str, version: int, *, patience: float = 5) -> None:
    client = host(lab, sender)
    word, _, port = to.rpartition(":")
    word, _, via = word.partition("@")
    address = address_of(lab, word, version)
    for end in (sender.removeprefix("pod/"), "node2", "far-0", "web-1"):
        flush = Netns.open(end).popen(
            ["ip", f"-{version}", "route", "flush", "cache"]
        )  # what the rows before have taught
        assert flush.wait(timeout=10) == 0
    with (
        narrow(lab, link, version),
        routed(lab, address, via) if via else contextlib.nullcontext(),
        client.socket(family_of(address), socket.SOCK_STREAM) as sock,
    ):
        sock.settimeout(patience)
        sock.connect((address, int(port)))
        text = "x" * 4000  # there and back
        answer = get(sock, f"/echo?msg={text}")
        assert answer == text or answer.startswith("client1")
        if link != sender:
            assert sock.getsockopt(*PATH_MTU[version]) == NARROW
            return
        peer = of_peer(get(sock, "/clientip"))
        known = lab.pod(get(sock, "/hostname")).run(f"ip route get {peer}").stdout
        assert re.search(rf"\bmtu {NARROW}\b", known)
