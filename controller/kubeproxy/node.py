"""What a node's flows need to know of the node itself: a value read from its Node object and its ports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from controller.api import wiring
from controller.kubeproxy.fields import FAMILIES, IPV4, Family, mac
from controller.kubeproxy.flow import Category, Cause
from controller.kubeproxy.pipeline import zones
from controller.kubeproxy.services import Address, Network

Obj = dict[str, Any]
ZONE_LABEL = "topology.kubernetes.io/zone"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node in one address family, as its bridge's flows see it."""

    name: str
    number: int
    family: Family
    address: Address
    mac: int
    pod_net: Network
    host_port: int
    uplink_port: int
    zone: str = ""

    @property
    def cause(self) -> Cause:
        return Cause(Category.NODE, "", self.name)

    @cached_property
    def dnat_zone(self) -> int:
        return zones(self.number)[0]

    @cached_property
    def snat_zone(self) -> int:
        return zones(self.number)[1]

    def is_local(self, address: Address) -> bool:
        """Whether a packet to this address ends on this node."""
        return int(address) in self._pods or address == self.address

    def is_inside(self, address: Address) -> bool:
        """Whether it is a pod's or a node's."""
        number = int(address)
        return any(number in span for span in self._inside)

    # As spans of numbers: an address is looked for in a network of ``ipaddress`` ten times as slowly.

    @cached_property
    def _pods(self) -> range:
        return _span(self.pod_net)

    @cached_property
    def _inside(self) -> tuple[range, range]:
        return _span(self.family.ranges.pods), _span(self.family.ranges.nodes)


def _span(network: Network) -> range:
    return range(int(network.network_address), int(network.broadcast_address) + 1)


def mac_among(addresses: Iterable[Address]) -> int | None:
    """The MAC of the host with these addresses: that of the first IPv4 one (``wiring.mac_of``), in both
    families."""
    first = next((a for a in addresses if isinstance(a, IPv4Address)), None)
    return None if first is None else mac(wiring.mac_of(first))


def read_node(obj: Obj, ports: Mapping[str, int]) -> tuple[tuple[Node, ...], list[str]]:
    """The node in each family it has an address of, IPv4 first; or none and the sentences that say what is
    still missing."""
    metadata = obj["metadata"]
    name, annotations = metadata["name"], metadata.get("annotations") or {}
    missing = [
        f"Node {name} has no annotation {key}"
        for key in (wiring.DATAPATH_ID, wiring.HOST_INTERFACE, wiring.UPLINK_INTERFACE)
        if not annotations.get(key)
    ]
    addresses = [
        ip_address(a["address"])
        for a in (obj.get("status") or {}).get("addresses") or []
        if a.get("type") == "InternalIP"
    ]
    spec = obj.get("spec") or {}
    networks = [ip_network(n) for n in spec.get("podCIDRs") or filter(None, [spec.get("podCIDR")])]
    found: list[tuple[Family, Address, Network]] = []
    for family in FAMILIES.values():
        address = next((a for a in addresses if isinstance(a, family.address)), None)
        if address is None:
            if family is IPV4:  # every node has it: its MAC address says it, too
                missing.append(f"Node {name} has no InternalIP of family {family}")
            continue
        pod_net = next((n for n in networks if isinstance(n.network_address, family.address)), None)
        if pod_net is None:
            missing.append(f"Node {name} has no podCIDR of family {family}")
            continue
        found.append((family, address, pod_net))
    if not missing:
        missing = [
            f"no port {annotations[key]} on the bridge of node {name}"
            for key in (wiring.HOST_INTERFACE, wiring.UPLINK_INTERFACE)
            if annotations[key] not in ports
        ]
    its_mac = mac_among(addresses)
    if missing or its_mac is None:
        return (), missing
    return tuple(
        Node(
            name=name,
            number=int(annotations[wiring.DATAPATH_ID], 16),
            family=family,
            address=address,
            mac=its_mac,
            pod_net=pod_net,
            host_port=ports[annotations[wiring.HOST_INTERFACE]],
            uplink_port=ports[annotations[wiring.UPLINK_INTERFACE]],
            zone=(metadata.get("labels") or {}).get(ZONE_LABEL, ""),
        )
        for family, address, pod_net in found
    ), []
