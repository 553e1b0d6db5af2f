"""The packet rows over a real lab: real sockets in real namespaces, real kernels at both ends."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from scenarios.evidence import connections
from scenarios.packet import read
from tests.packets import ROWS, SCENE, Obj, Row, pod, service
from topo.config import ClusterConfig
from topo.images.peer import peer_of, shown
from topo.lab import Lab
from topo.netns import Netns
from topo.plan import FABRIC

HAIRPIN = {4: "169.254.0.253", 6: "fd00:169:254::253"}
GATEWAY = {4: "169.254.1.1", 6: "fe80::1"}
MOST_CONNECTIONS = 40
"""Two endpoints that share evenly leave one out of so many with a chance of 2^-39."""
_TO = re.compile(r"(?P<host>\[.+\][^:]*|[^:]+?)(?::(?P<port>\d+))?/(?P<protocol>tcp|udp|icmp)")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with scene() as lab:
        yield lab


@contextlib.contextmanager
def scene(
    datapath: str = "auto", ip_family: str = "ipv4", objects: Sequence[Obj] = tuple(SCENE)
) -> Iterator[Lab]:
    """A lab in which every row can be tried."""
    with Lab(ClusterConfig(nodes=3, clients=1, datapath=datapath, ip_family=ip_family)) as lab:
        lab.apply(*objects)
        for service in (obj for obj in objects if "loadBalancer" in obj.get("status", {})):
            patch, name = {"status": service["status"]}, service["metadata"]["name"]
            lab.client.patch("Service", name, patch, "default", subresource="status")
        lab.settle()
        with served_by_client1(lab):
            yield lab


@contextlib.contextmanager
def served_by_client1(lab: Lab) -> Iterator[None]:
    """A host on the internet: answers who it is and whom it sees, on 8080, TCP and UDP."""
    client = lab.outside()
    family, everywhere = (socket.AF_INET6, "::") if len(client.ips) > 1 else (socket.AF_INET, "0.0.0.0")
    stream, datagram = client.socket(family), client.socket(family, kind=socket.SOCK_DGRAM)
    for sock in (stream, datagram):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((everywhere, 8080))
    stream.listen(16)

    def serve_stream() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = stream.accept()
                threading.Thread(target=talk, args=(connection, peer), daemon=True).start()

    def talk(connection: socket.socket, peer: tuple[str, int]) -> None:
        with connection:
            while request := connection.recv(4096):
                body = shown(peer_of(peer)) if b"/clientip" in request else "client1"
                connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    def serve_datagram() -> None:
        with contextlib.suppress(OSError):
            while True:
                request, peer = datagram.recvfrom(8192)
                if not request:  # shut down
                    return
                body = shown(peer_of(peer)).encode() if request.startswith(b"clientip") else b"client1"
                datagram.sendto(request.removeprefix(b"echo ") if b"echo " in request else body, peer)

    threads = [threading.Thread(target=serve) for serve in (serve_stream, serve_datagram)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for sock in (stream, datagram):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        stream.close()
        datagram.close()


@pytest.mark.parametrize("row", [row for row in ROWS if "net" in row.tiers], ids=lambda row: row.name)
def test_row(lab: Lab, row: Row) -> None:
    try_row(lab, row)


def try_row(lab: Lab, row: Row, version: int = 4) -> None:
    """Send what the row says by IP of that version, and check what it expects."""
    sender = host(lab, row.sender)
    to = _TO.fullmatch(row.to)
    assert to, row.to
    word, _, via = to["host"].partition("@")
    address = address_of(lab, word, version)
    with routed(lab, address, via) if via else contextlib.nullcontext():
        check(lab, row, sender, address, to)


@contextlib.contextmanager
def routed(lab: Lab, address: str, node: str) -> Iterator[None]:
    """The fabric sends what is for ``address`` to that node, as an administrator or a cloud would have it."""
    fabric, interface = Netns.open(FABRIC), lab.plan.node(node).fabric_interface
    version = ip_address(address).version
    route = [address, "via", GATEWAY[version], "dev", interface, "onlink"]
    assert fabric.popen(["ip", "route", "add", *route]).wait(timeout=10) == 0
    try:
        yield
    finally:
        assert fabric.popen(["ip", "route", "del", *route]).wait(timeout=10) == 0


def check(lab: Lab, row: Row, sender: Any, address: str, to: re.Match[str]) -> None:
    if to["protocol"] == "icmp":
        check_ping(lab, row, sender, address)
        return
    if isinstance(row.expect, str):
        kind = {"refused": errno.ECONNREFUSED, "unreachable": errno.ENETUNREACH, "dropped": errno.ETIMEDOUT}
        # In IPv6 an ICMP error that is back before connect() waits counts only when the SYN is sent again
        patience = 1 if row.expect == "dropped" else 5
        assert failure(sender, address, int(to["port"]), to["protocol"], patience) == kind[row.expect]
        return
    answered: set[str] = set()
    for number in range(12 if row.one else MOST_CONNECTIONS):
        name, seen = ask(sender, address, int(to["port"]), to["protocol"])
        assert seen in sources(lab, row, ip_address(address).version), f"{name} saw {seen}"
        answered.add(pod_named(name, row))
        if answered >= set(row.expect) and number >= 2 * len(row.expect):
            break
    assert len(answered) == 1 and answered < set(row.expect) if row.one else answered == set(row.expect)


def test_a_udp_client_that_keeps_its_port_leaves_pods_that_are_gone(lab: Lab) -> None:
    pods = [pod("short-0", "node1", "short"), pod("short-1", "node2", "short")]
    lab.apply(*pods, service("short", "10.96.0.80"))
    lab.settle()
    with lab.pod("bob").socket(kind=socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind(("0.0.0.0", 12345))
        sock.connect(("10.96.0.80", 80))

        def answered() -> str:
            sock.send(b"hostname\n")
            return sock.recv(4096).decode()

        first = answered()
        lab.client.delete("Pod", first, "default")
        lab.settle()
        other = answered()
        assert {first, other} == {"short-0", "short-1"}
        lab.client.delete("Pod", other, "default")
        lab.settle()
        with pytest.raises(ConnectionRefusedError):
            answered()
        lab.apply(pods[0])
        lab.settle()
        assert answered() == "short-0"


def host(lab: Lab, word: str) -> Any:
    _kind, slash, name = word.rpartition("/")
    return lab.pod(name) if slash else lab.host(word)


def address_of(lab: Lab, word: str, version: int = 4) -> str:
    kind, _, name = word.rpartition("/")
    found: list[str]
    if name.startswith("["):
        return name.strip("[]")
    if kind == "pod":
        found = [entry["ip"] for entry in lab.client.get("Pod", name)["status"]["podIPs"]]
    elif kind:
        service = lab.client.get("Service", name)
        balancer = service.get("status", {}).get("loadBalancer", {}).get("ingress", ())
        found = {
            "svc": service["spec"]["clusterIPs"],
            "ext": service["spec"].get("externalIPs"),
            "lb": [entry["ip"] for entry in balancer],
        }[kind]
    elif name == "localhost":
        found = ["127.0.0.1", "::1"]
    elif name[0].isalpha():
        found = list(map(str, lab.host(name).ips))
    else:
        found = [name]
    return next(address for address in found if ip_address(address).version == version)


def pod_named(hostname: str, row: Row) -> str:
    """A hostNetwork pod's hostname is its node's: then the expected one of that node, or the node."""
    of_node = {
        pod["metadata"]["name"]
        for pod in SCENE
        if pod["spec"].get("hostNetwork") and pod["spec"].get("nodeName") == hostname
    }
    return next((name for name in row.expect if name in of_node), hostname)


def sources(lab: Lab, row: Row, version: int) -> set[str]:
    """The addresses as which the sender may appear."""
    found = set()
    for word in row.source.split(" or "):
        if word == "hairpin":
            found.add(HAIRPIN[version])
        else:
            addresses = host(lab, row.sender if word == "sender" else word).ips
            found |= {str(address) for address in addresses if address.version == version}
    return found


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def of_peer(text: str) -> str:
    """The address of ``address:port``, without IPv6's brackets."""
    return text.rpartition(":")[0].strip("[]")


def ask(sender: Any, address: str, port: int, protocol: str) -> tuple[str, str]:
    """Who answers one connection, and the address it sees."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with sender.socket(family_of(address), kind) as sock:
        sock.settimeout(5)
        sock.connect((address, port))
        if protocol == "udp":
            sock.send(b"hostname\n")
            name = sock.recv(4096).decode()
            sock.send(b"clientip\n")
            return name, of_peer(sock.recv(4096).decode())
        return get(sock, "/hostname"), of_peer(get(sock, "/clientip"))


def get(sock: socket.socket, path: str) -> str:
    """A request on a connection that stays open."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())
    text = b""
    while b"\r\n\r\n" not in text:
        more = sock.recv(4096)
        assert more, f"the connection was closed after {text!r}"
        text += more
    head, _, body = text.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    assert length, head
    while len(body) < int(length[1]):
        body += sock.recv(4096)
    return body.decode()


def failure(sender: Any, address: str, port: int, protocol: str, patience: float = 1) -> int:
    """How a connection fails: an errno; 0 when it does not. Silence of ``patience`` seconds is ETIMEDOUT."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with sender.socket(family_of(address), kind) as sock:
        sock.settimeout(patience)
        try:
            sock.connect((address, port))
            if protocol == "udp":
                sock.send(b"hostname\n")
                sock.recv(4096)
        except TimeoutError:
            return errno.ETIMEDOUT
        except OSError as error:
            return error.errno or -1
    return 0


def check_ping(lab: Lab, row: Row, sender: Any, address: str) -> None:
    """One echo request; who answered and as whom the sender appeared is read from the links."""
    version = ip_address(address).version
    icmp = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    request, reply = (8, 0) if version == 4 else (128, 129)
    with (
        lab.capture() as capture,
        sender.socket(family_of(address), socket.SOCK_DGRAM, icmp) as sock,
    ):
        sock.settimeout(1 if row.expect == "dropped" else 5)
        sock.connect((address, 0))
        sock.send(struct.pack("!BBHHH", request, 0, 0, 0, 1) + b"podwire")
        try:
            answered = sock.recv(4096)[0] == reply
        except TimeoutError:
            answered = False
    assert answered == (row.expect != "dropped")
    if isinstance(row.expect, str):
        return
    packets = [
        read(frame.data, time_ns=frame.time_ns, link=frame.link, outgoing=frame.direction == "out")
        for frame in capture.packets
    ]
    told = (packet for packet in packets if packet and not packet.on_one_link)
    found = [c for c in connections(told) if c.asked.dst.address == address]
    assert len(found) == 1
    assert found[0].served.src.address in sources(lab, row, version)
    wanted = next(iter(row.expect))
    there = wanted if wanted.startswith("client") else f"pod/{wanted}"
    assert found[0].served.dst.address == address_of(lab, there, version)
