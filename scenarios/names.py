"""Who is behind an address: pods, nodes, Services and clients beside the numbers in a lesson.

Pure: built from API objects and the plan's hosts. A directory is a snapshot; a lesson that changes
the cluster makes a new one, and keeps the old names of pods that are gone (``remember``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from controller.api import wiring
from scenarios.packet import Endpoint, Packet

_NODE_PORTS = {str(ranges.node_port_virtual) for ranges in wiring.RANGES.values()}
_FIXED = {
    str(address): name
    for ranges in wiring.RANGES.values()
    for address, name in (
        (ranges.gateway, "the gateway"),
        (ranges.node_port_virtual, "this node's NodePorts"),
        (ranges.hairpin_virtual, "hairpin"),
    )
}


class Directory:
    """Names by address, and by address and port where a Service is meant."""

    def __init__(
        self, objects: Iterable[Mapping[str, Any]] = (), hosts: Mapping[str, str] | None = None
    ) -> None:
        """``hosts`` maps an address to a host that is no API object (clients, the fabric)."""
        self._hosts: dict[str, str] = dict(_FIXED) | dict(hosts or {})
        self._nodes: dict[str, str] = {}
        self._services: dict[str, str] = {}
        self._node_ports: dict[int, str] = {}
        for obj in objects:
            self._add(obj)

    def remember(self, older: Directory) -> Directory:
        """This directory, with the hosts of an older one where an address is nobody's now."""
        self._hosts = older._hosts | self._hosts
        self._nodes = older._nodes | self._nodes
        self._services = older._services | self._services
        self._node_ports = older._node_ports | self._node_ports
        return self

    def host(self, address: str) -> str:
        """The name of whom an address belongs to; the address itself when nobody is known."""
        if name := self._nodes.get(address) or self._hosts.get(address) or self._services.get(address):
            return name
        return "no Service" if _is_service_address(address) else address

    def who(self, endpoint: Endpoint) -> str:
        """``client1``, ``pod frontend-x``, ``Service backendflask``, ``node1, NodePort of frontend-node``."""
        own = endpoint.address in self._nodes or endpoint.address in _NODE_PORTS
        if own and endpoint.port in self._node_ports:
            return f"{self.host(endpoint.address)}, NodePort of {self._node_ports[endpoint.port]}"
        return self.host(endpoint.address)

    def between(self, packet: Packet) -> str:
        """``client1 → pod frontend-x``."""
        return f"{self.who(packet.src)} → {self.who(packet.dst)}"

    def _add(self, obj: Mapping[str, Any]) -> None:
        name, spec, status = obj["metadata"]["name"], obj.get("spec") or {}, obj.get("status") or {}
        if obj["kind"] == "Node":
            for entry in status.get("addresses") or ():
                if entry.get("type") in ("InternalIP", "ExternalIP"):
                    self._nodes[entry["address"]] = name
        elif obj["kind"] == "Pod" and not spec.get("hostNetwork"):
            for entry in status.get("podIPs") or ({"ip": status.get("podIP")},):
                if address := entry.get("ip"):
                    self._hosts[str(address)] = f"pod {name}"
        elif obj["kind"] == "Service":
            for address in spec.get("clusterIPs") or (spec.get("clusterIP"),):
                if address and address != "None":
                    self._services[address] = f"Service {name}"
            for entry in (status.get("loadBalancer") or {}).get("ingress") or ():
                if address := entry.get("ip"):
                    self._services[address] = f"Service {name}"
            for port in spec.get("ports") or ():
                if port.get("nodePort"):
                    self._node_ports[port["nodePort"]] = name


def _is_service_address(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in ranges.services for ranges in wiring.RANGES.values())
