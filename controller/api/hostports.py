"""hostPort and hostIP of a pod's containers: who takes which port of a node, and when two collide.

Read by the scheduler, the kubelet's wires and the kubeproxy alike. Pure; nothing here forwards a packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

Obj = dict[str, Any]
_ANY = ("", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """``port`` of the node leads to ``target`` of the pod; at ``address`` alone, or ("") at every one."""

    protocol: str
    port: int
    address: str
    target: int

    def at(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether it is open at this address of the node; ``0.0.0.0`` and ``::``: at all of a family."""
        if self.address in _ANY:
            return not self.address or ip_address(self.address).version == address.version
        return ip_address(self.address) == address

    def collides(self, other: HostPort) -> bool:
        """As the scheduler sees it: same protocol and port, and the same address or one of them every one."""
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        return self.address == other.address or self.address in _ANY or other.address in _ANY


def host_ports(pod: Obj) -> Iterator[HostPort]:
    """What a pod asks of its node; with hostNetwork, all its ports, which are its node's anyhow."""
    spec = pod["spec"]
    on_host = bool(spec.get("hostNetwork"))
    for container in spec.get("containers") or ():
        for port in container.get("ports") or ():
            number = port.get("hostPort") or (port.get("containerPort") if on_host else None)
            if number:
                yield HostPort(
                    protocol=port.get("protocol") or "TCP",
                    port=number,
                    address=port.get("hostIP") or "",
                    target=port["containerPort"],
                )


def forwarded(pod: Obj) -> tuple[HostPort, ...]:
    """The host ports that somebody must lead to the pod: none of a pod in its node's own network."""
    return () if pod["spec"].get("hostNetwork") else tuple(host_ports(pod))
