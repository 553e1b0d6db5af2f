"""The address plan: names, addresses, MACs and port names of one cluster. Pure.

Everything that must be known twice (by the wires and by a test, a lesson, a Node object) is computed
here once from a ClusterConfig. No I/O, no Mininet, no clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from controller.api.wiring import FAMILIES_OF, NODE_NET, OUTSIDE_NET, POD_NET, RANGES, mac_of
from topo.config import MAX_NODES, ClusterConfig, LinkConfig

FABRIC = "fabric"
FABRIC_ADDRESS = NODE_NET[1]
"""The router's own address, source of its ICMP errors: the place of the machine itself in minikube."""
INTERNET = "internet"
"""The host out there that resolves names and is www.example.com."""
FIRST_CLIENT = 11
"""198.51.100.1-10 are kept for hosts on the internet."""
HOST_INTERFACE = "eth0"
"""The one interface of every node, pod and client, seen from inside."""

_RESERVED = re.compile(r"(node|client|br-node)\d+|fabric|internet")


def mac_bytes(mac: str) -> bytes:
    """A MAC in text as its six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network


def in_family(address: IPv4Address, family: str) -> Address:
    """The address in ``family`` of the host that has this IPv4 address: written with the same digits.

    192.168.49.12 and fd00:49::12, 10.244.3.17 and fd00:10:244:3::17, 198.51.100.11 and 2001:db8:198::11. So
    what is decimal on the left is hexadecimal on the right, and one who knows the one knows the other.
    """
    if family == "IPv4":
        return address
    ranges, last = RANGES[family], _same_digits(address.packed[3])
    if address in POD_NET:
        return ranges.pods[_same_digits(address.packed[2]) << 64 | last]
    net = ranges.nodes if address in NODE_NET else ranges.outside
    assert address in NODE_NET or address in OUTSIDE_NET, f"{address} is no host's"
    return net[last]


def link_local(mac: str) -> IPv6Address:
    """The address of an interface on its own link, from which it asks for neighbours: fe80:: and its MAC."""
    return IPv6Address(0xFE80 << 112 | int.from_bytes(mac_bytes(mac)))


def _same_digits(number: int) -> int:
    return int(str(number), 16)


def pod_host_name(namespace: str, pod: str) -> str:
    """Name of a pod's Mininet host and network namespace: the pod's own in ``default``.

    Elsewhere, or where a node, client or the fabric has that name already, ``<namespace>.<pod>``
    (a pod's name may hold dots but a namespace's may not, so this stays unambiguous).
    """
    if namespace == "default" and "." not in pod and not _RESERVED.fullmatch(pod):
        return pod
    return f"{namespace}.{pod}"


@dataclass(frozen=True, kw_only=True)
class HostPlan:
    """A host on the end of one link: node or client. ``number`` counts from 1."""

    number: int
    name: str
    address: IPv4Address
    link: LinkConfig
    families: tuple[str, ...] = ("IPv4",)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """One of each family, in their order."""
        return tuple(in_family(self.address, family) for family in self.families)

    @property
    def mac(self) -> str:
        return mac_of(self.address)

    @property
    def fabric_interface(self) -> str:
        """The router's interface towards it (in the fabric's namespace)."""
        return self.name


@dataclass(frozen=True, kw_only=True)
class ClientPlan(HostPlan):
    """A host of the outside world, on a link to the fabric."""


@dataclass(frozen=True, kw_only=True)
class NodePlan(HostPlan):
    """A Kubernetes node: a bridge, a host beside it, an uplink to the fabric."""

    zone: str

    @property
    def bridge(self) -> str:
        return f"br-{self.name}"

    @property
    def datapath_id(self) -> str:
        """As Open vSwitch writes it: 16 hex digits."""
        return f"{self.number:016x}"

    @property
    def pod_cidr(self) -> IPv4Network:
        return IPv4Network((int(POD_NET.network_address) + (self.number << 8), 24))

    @property
    def pod_cidrs(self) -> tuple[Prefix, ...]:
        """One of each family, in their order: 10.244.3.0/24 and fd00:10:244:3::/64."""
        first = self.pod_cidr.network_address
        return tuple(
            self.pod_cidr if family == "IPv4" else IPv6Network((int(in_family(first, family)), 64))
            for family in self.families
        )

    @property
    def host_interface(self) -> str:
        """The bridge port towards the node's own namespace."""
        return f"{self.name}-host"

    @property
    def uplink_interface(self) -> str:
        """The bridge port towards the fabric."""
        return f"{self.name}-up"

    @property
    def control_plane(self) -> bool:
        return self.number == 1

    def pod_interface(self, address: IPv4Address) -> str:
        """The bridge port of the pod with that address: ``node1-p5`` for 10.244.1.5."""
        assert address in self.pod_cidr, f"{address} is not of {self.name}"
        return f"{self.name}-p{int(address) & 0xFF}"


@dataclass(frozen=True)
class Plan:
    """All hosts of a cluster, by what was asked for."""

    config: ClusterConfig

    @cached_property
    def families(self) -> tuple[str, ...]:
        """``IPv4``, or ``IPv4`` and ``IPv6``; the first is the primary one."""
        return FAMILIES_OF[self.config.ip_family]

    @cached_property
    def nodes(self) -> tuple[NodePlan, ...]:
        return tuple(
            NodePlan(
                number=n,
                name=f"node{n}",
                address=NODE_NET[n + 1],
                zone=self.config.zones[n - 1] if self.config.zones else "",
                link=self._link(f"node{n}", "nodes"),
                families=self.families,
            )
            for n in range(1, self.config.nodes + 1)
        )

    @cached_property
    def clients(self) -> tuple[ClientPlan, ...]:
        return tuple(
            ClientPlan(
                number=n,
                name=f"client{n}",
                address=OUTSIDE_NET[FIRST_CLIENT + n - 1],
                link=self._link(f"client{n}", "clients"),
                families=self.families,
            )
            for n in range(1, self.config.clients + 1)
        )

    @cached_property
    def internet(self) -> ClientPlan:
        """The one host out there that is not for clients."""
        address, families = OUTSIDE_NET[1], self.families
        return ClientPlan(number=0, name=INTERNET, address=address, link=LinkConfig(), families=families)

    @cached_property
    def outside(self) -> tuple[ClientPlan, ...]:
        """Everybody beyond the router."""
        return (*self.clients, self.internet)

    @cached_property
    def spare_node_addresses(self) -> tuple[IPv4Address, ...]:
        """What ``readdress`` may take, in this order; none is a node's from the start."""
        return tuple(NODE_NET[number] for number in range(MAX_NODES + 2, 255))

    def node(self, name: str) -> NodePlan:
        return next(node for node in self.nodes if node.name == name)

    def _link(self, name: str, group: str) -> LinkConfig:
        return self.config.links.get(name) or self.config.links.get(group) or LinkConfig()
