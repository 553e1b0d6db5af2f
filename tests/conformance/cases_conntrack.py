"""What conntrack must remember and what it must forget: conntrack.go, KubeProxy, pods that come and go.

The UDP cases keep one client socket with a fixed source port, so that its entry never expires by itself.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from scenarios.packet import read
from tests.conformance.case import case
from tests.conformance.kit import Kit
from tests.conformance.traffic import connection, datagram, http

GROUP = "Conntrack"
SOURCE_PORT = 12345


@contextmanager
def fixed_port(kit: Kit, sender: str, to: str) -> Iterator[socket.socket]:
    with connection(kit.host(sender), kit.target(to), timeout=1, source_port=SOURCE_PORT) as sock:
        yield sock


def says(kit: Kit, sock: socket.socket, expect: str) -> None:
    """The next datagrams are answered by that pod, and at once."""
    answers = [kit.who(datagram(sock, "hostname\n")) for _ in range(3)]
    assert answers == [expect] * 3, f"from a fixed port, expected {expect}: {answers}"


def cycle(kit: Kit, sender: str, to: str, *, node: int = 1, again: int = 1) -> None:
    """server-1 answers; server-2 takes its place; the client's entry must not lead to the dead pod."""
    kit.pod("server-1", node, app="udp")
    with fixed_port(kit, sender, to) as sock:
        says(kit, sock, "server-1")
        kit.pod("server-2", again, app="udp")
        kit.delete("Pod", "server-1")
        says(kit, sock, "server-2")


_CYCLES = "should be able to preserve UDP traffic when server pod cycles for a "


@case(GROUP, _CYCLES + "NodePort service")
def cycles_node_port(kit: Kit) -> None:
    service = kit.service("udp", ports=[(80, "UDP")], type="NodePort")
    cycle(kit, kit.client(2), kit.node_port(service, 1, protocol="UDP"))


@case(GROUP, _CYCLES + "ClusterIP service", sender="pod")
@case(GROUP, _CYCLES + "ClusterIP service and client is hostNetwork", sender="node")
def cycles_cluster_ip(kit: Kit, sender: str) -> None:
    service = kit.service("udp", ports=[(80, "UDP")])
    asks = kit.client(2) if sender == "pod" else kit.host_client(2)
    cycle(kit, asks, f"{service['spec']['clusterIP']}:80/udp")


@case(GROUP, _CYCLES + "ClusterIP service with InternalTrafficPolicy set to Local")
def cycles_local(kit: Kit) -> None:
    service = kit.service("udp", ports=[(80, "UDP")], internalTrafficPolicy="Local")
    cycle(kit, kit.client(1), f"{service['spec']['clusterIP']}:80/udp")


@case(GROUP, "should be able to preserve UDP traffic when initial unready endpoints get ready")
def initially_unready(kit: Kit) -> None:
    service = kit.service("udp", ports=[(80, "UDP")])
    client = kit.client(2)
    with fixed_port(kit, client, f"{service['spec']['clusterIP']}:80/udp") as sock:
        assert datagram(sock, "hostname\n") == "refused"
        kit.pod("server-1", 1, app="udp")
        says(kit, sock, "server-1")


@case(GROUP, "should drop INVALID conntrack entries [Privileged]")
def invalid(kit: Kit) -> None:
    """As upstream: in the middle of a connection the server sends a segment far outside of the window. The
    switch may translate it or drop it; if it came to the client with the pod's own address, the client's
    kernel would answer with a reset, and the server's side of the connection would be gone."""
    service = kit.service("boom")
    kit.pods("boom", (1,))
    client = kit.client(2)
    server, near = kit.running("boom-1"), kit.host(client)
    with (
        kit.lab.capture() as capture,
        connection(near, kit.target(service)) as sock,
        server.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw,
    ):
        assert http(sock, "/hostname") == (200, "boom-1")
        raw.sendto(_segment(str(server.ip), str(near.ip), 8080, sock.getsockname()[1]), (str(near.ip), 0))
        assert http(sock, "/hostname") == (200, "boom-1")
    frames = [read(frame.data, link=frame.link) for frame in capture.packets]
    resets = [f"{one.src} to {one.dst} on {one.link}" for one in frames if one and "RST" in one.flags]
    assert not resets, f"the connection was reset: {resets[0]}"


def _segment(source: str, destination: str, from_port: int, to_port: int) -> bytes:
    """An ACK of nothing, with a right checksum."""
    header = struct.pack("!HHIIBBHHH", from_port, to_port, 4711, 4712, 5 << 4, 0x10, 1000, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!BBH", 0, 6, len(header))
    total = sum(struct.unpack(f"!{(len(pseudo) + len(header)) // 2}H", pseudo + header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:16] + struct.pack("!H", ~total & 0xFFFF) + header[18:]


@case("KubeProxy", "should set TCP CLOSE_WAIT timeout [Privileged]")
def close_wait(kit: Kit) -> None:
    """Upstream reads the time left of a connection whose server has closed in /proc/net/nf_conntrack; here
    Open vSwitch's conntrack is asked for it, of both of the nodes' entries."""
    service, _ = kit.service("web"), kit.pods("web", (2,))
    request = b"GET /hostname HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
    with connection(kit.host(kit.client(1)), kit.target(service)) as sock:
        sock.sendall(request)
        while sock.recv(65536):
            pass
        port = sock.getsockname()[1]
        entries = kit.lab.ovs.appctl("dpctl/dump-conntrack", "-s").splitlines()
    left = [int(re.findall(r"timeout=(\d+)", one)[0]) for one in entries if f"sport={port}," in one]
    assert left, f"no entry of the connection from port {port}"
    assert all(3540 <= one <= 3660 for one in left), f"forgotten in {left} seconds, not in 3600"


@case("KubeProxy", "should update metric for tracking accepted packets destined for localhost nodeports")
def localhost_counted(kit: Kit) -> None:
    """Upstream counts by the kernel's NFAcct. On Open vSwitch every flow counts by itself: a connection to
    localhost and the node port is seen in the packets of the Service's flow in ServiceLB on that node."""
    service, pods = kit.service("web", type="NodePort"), kit.pods("web", (2,))
    number = service["spec"]["ports"][0]["nodePort"]

    def count() -> int:
        lines = kit.lab.ovs.ofctl("dump-flows", kit.node(1).bridge).splitlines()
        mine = [one for one in lines if f"tp_dst={number}" in one and "group:" in one]
        assert mine, f"node1 has no flow for node port {number}"
        return sum(int(found[1]) for one in mine if (found := re.search(r"n_packets=(\d+)", one)))

    before = count()
    kit.reach("node1", f"localhost:{number}", pods)
    kit.until(lambda: count() > before, "the flow of the node port has counted")


_LIFE = "Connectivity Pod Lifecycle should be able to connect "


@case("Networking others", _LIFE + "from a Pod to a terminating Pod")
def to_terminating(kit: Kit) -> None:
    (name,) = kit.lingering("ends")
    client, address = kit.client(2), f"{kit.ip('ends-1')}:8080"
    kit.terminate(name)
    kit.reach(client, address, {name}, times=5)


@case("Networking others", _LIFE + "to other Pod from a terminating Pod")
def from_terminating(kit: Kit) -> None:
    (name,) = kit.lingering("ends")
    other = kit.pod("other", 2)
    kit.terminate(name)
    kit.reach(f"pod/{name}", f"{kit.ip(other)}:8080", {other}, times=5)
