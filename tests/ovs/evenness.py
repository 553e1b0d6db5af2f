"""How evenly connections spread over endpoints: measured through a real switch, source ports fixed.

``python -m tests.ovs.evenness`` prints the tables of the pipeline document: what is used here, plain
``dp_hash`` (one bucket of equal weight for each endpoint) and ``hash``, on the dummy datapath, no root.
Source ports count up from 20000, so the figures do not change from run to run.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from math import exp, lgamma, log
from pathlib import Path

from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether

from controller.api import wiring
from controller.kubeproxy import openflow
from controller.kubeproxy.diff import Have, diff
from controller.kubeproxy.flow import Desired, Group, hash_bits
from controller.kubeproxy.flows_fragments import FRAGMENT_GROUP
from controller.kubeproxy.proxier import Proxier
from tests.kubeproxy_objects import (
    endpoint_object,
    in_both_families,
    node_object,
    pod_object,
    port_object,
    service_object,
    slice_object,
)
from tests.ovs.layers import header
from tests.ovs.private_ovs import PrivateOvs
from tests.ovs.switch import DummySwitch
from tests.packets_dual import in_ipv6

HTTP = port_object(80, 8080)
PORTS = {"node1-host": 1, "node1-up": 2, "node1-p2": 3}
CLIENT, SERVICE, FIRST = "10.244.1.2", "10.96.0.50", IPv4Address("10.244.2.2")
COUNTS = (2, 3, 5, 10, 100, 250)
METHODS = ("as here", "dp_hash", "hash")


@dataclass(frozen=True)
class Spread:
    """So many connections for each endpoint."""

    counts: tuple[int, ...]

    @property
    def mean(self) -> float:
        return sum(self.counts) / len(self.counts)

    @property
    def most(self) -> float:
        """Of what is even."""
        return max(self.counts) / self.mean

    @property
    def least(self) -> float:
        return min(self.counts) / self.mean

    @property
    def p(self) -> float:
        """How often chance alone would spread them more unevenly (Pearson's chi-square)."""
        square = sum((n - self.mean) ** 2 for n in self.counts) / self.mean
        return chi_square_tail(square, len(self.counts) - 1)


def chi_square_tail(square: float, freedom: int) -> float:
    """P(chi-square > square): the regularized upper incomplete gamma function, by its series."""
    a, x = freedom / 2, square / 2
    if x <= 0:
        return 1.0
    term = total = 1 / a
    n = a
    while term > total * 1e-15:
        n += 1
        term *= x / n
        total += term
    return max(0.0, 1 - total * exp(a * log(x) - x - lgamma(a)))


def proxier_over(count: int, dual: bool = False) -> Proxier:
    """node1 with a pod and a Service over so many endpoints on another node."""
    proxier = Proxier("node1")
    proxier.set_ports(PORTS)
    endpoints = [endpoint_object(str(FIRST + i)) for i in range(count)]
    objects = [
        node_object("node1"),
        pod_object("alice", "node1", CLIENT, "node1-p2"),
        service_object("web", SERVICE, HTTP),
        slice_object("web", [HTTP], endpoints),
    ]
    for obj in in_both_families(objects) if dual else objects:
        proxier.apply("ADDED", obj)
    return proxier


def by_method(group: Group, method: str) -> Group:
    """The same endpoints chosen in another way."""
    if method == "as here" or group.group_id == FRAGMENT_GROUP:
        return group
    once = {bucket.actions: bucket for bucket in group.buckets}.values()
    equal = tuple(
        bucket._replace(bucket_id=hash_bits(f"{method} {bucket.actions}", 24), weight=100) for bucket in once
    )
    fields = group_of_hash().fields if method == "hash" else ()
    return replace(group, method=method, fields=fields, buckets=equal)


def group_of_hash() -> Group:
    """Any group that uses ``hash``: its fields are those of all."""
    groups = proxier_over(100).desired().groups.values()
    return next(group for group in groups if group.method == "hash")


class Bench:
    """One bridge on which a group is tried after the other."""

    def __init__(self, switch: DummySwitch, name: str = "br-even") -> None:
        self.switch, self.name = switch, name
        self.family = "IPv4"
        """In which connections are opened; endpoints are called by their IPv4 addresses."""
        switch.add_bridges({name: list(PORTS)})
        self._have = Have()

    def spread(self, count: int, method: str = "as here", connections: int = 0) -> Spread:
        """Where so many new connections go: by default 2,000, and 3,000 above 32 endpoints."""
        self.hold(self.over(count), method)
        got = self.connect(connections or (3000 if count > 32 else 2000))
        return Spread(tuple(got[str(FIRST + i)] for i in range(count)))

    def moved(self, count: int, method: str = "as here", connections: int = 1000) -> float:
        """When one of so many endpoints goes: the share of the others' connections that would move."""
        self.hold(self.over(count), method)
        before = self.chosen(connections)
        self.hold(self.over(count - 1), method)
        return moved(before, self.chosen(connections), str(FIRST + count - 1))

    def over(self, count: int) -> Desired:
        return proxier_over(count, self.family == "IPv6").desired()

    def hold(self, desired: Desired, method: str = "as here") -> None:
        groups = {number: by_method(group, method) for number, group in desired.groups.items()}
        wanted = Desired(desired.flows, groups)
        # Bucket ids do not tell the methods apart, so all groups are told again.
        have = Have(flows=self._have.flows, groups=dict.fromkeys(self._have.groups, (0,)))
        self.switch.openflow(self.name).send(openflow.bundle(diff(have, wanted), 1, 1))
        self._have = Have(flows=set(wanted.flows), groups=dict.fromkeys(wanted.groups, (0,)))

    def connect(self, connections: int, source: str = CLIENT) -> Counter[str]:
        """The endpoints that so many first packets left for."""
        return Counter(self.chosen(connections, source))

    def chosen(self, connections: int, source: str = CLIENT, target: str = SERVICE) -> list[str]:
        """The endpoint of each connection: source ports count up from 20000."""
        self.switch.flush_conntrack()
        self.switch.forget_megaflows()
        self.switch.sent("node1-up")
        ipv6 = self.family == "IPv6"
        ip = header(in_ipv6(source), in_ipv6(target)) if ipv6 else header(source, target)
        head = Ether(src=wiring.mac_of(source), dst=wiring.GATEWAY_MAC) / ip
        template = bytearray(bytes(head / TCP(sport=20000, dport=80, flags="S")))
        at = 54 if ipv6 else 34  # where TCP begins
        checksum = int.from_bytes(template[at + 16 : at + 18], "big")
        for turn in range(connections):
            template[at : at + 2] = (20000 + turn).to_bytes(2, "big")
            template[at + 16 : at + 18] = ((checksum - turn) % 0xFFFF).to_bytes(2, "big")  # RFC 1624
            self.switch.receive("node1-p2", bytes(template))
        frames = self.switch.sent("node1-up")
        assert len(frames) == connections, f"{len(frames)} of {connections} left"
        if ipv6:
            ipv4 = {in_ipv6(str(FIRST + i)): str(FIRST + i) for i in range(max(COUNTS))}
            return [ipv4[str(IPv6Address(frame[38:54]))] for frame in frames]
        return [str(IPv4Address(frame[30:34])) for frame in frames]


def moved(before: Sequence[str], after: Sequence[str], gone: str) -> float:
    """The share of the connections to others than ``gone`` that went elsewhere the second time."""
    pairs = [(old, new) for old, new in zip(before, after, strict=True) if old != gone]
    return sum(old != new for old, new in pairs) / len(pairs)


def row(count: int, spreads: Sequence[Spread]) -> str:
    """Most and least loaded as a multiple of what is even, and p."""
    cells = [f"{one.most:.2f} {one.least:.2f} {_p(one.p)}" for one in spreads]
    return "| " + " | ".join([str(count), *cells]) + " |"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "**< 0.001**"


def main(counts: Sequence[int]) -> int:
    """Print the table; for these numbers of endpoints."""
    with tempfile.TemporaryDirectory(prefix="even") as directory:
        ovs = PrivateOvs(Path(directory))
        try:
            ovs.start()
            bench = Bench(DummySwitch(ovs))
            print("| endpoints | " + " | ".join(METHODS) + " |\n|" + "---|" * (len(METHODS) + 1))
            for count in counts:
                print(row(count, [bench.spread(count, method) for method in METHODS]), flush=True)
            print("\n| one goes of | " + " | ".join(METHODS) + " |\n|" + "---|" * (len(METHODS) + 1))
            for count in counts:
                shares = (f"{bench.moved(count, method):.1%}" for method in METHODS)
                print(f"| {count} | " + " | ".join(shares) + " |", flush=True)
        finally:
            ovs.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main([int(text) for text in sys.argv[1:]] or COUNTS))
