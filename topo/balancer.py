"""What a cloud's network load balancer decides: which nodes an external address leads to. Pure.

It reads what is public: ``status.loadBalancer.ingress[].ip`` of Services (the addresses it owns) and Nodes.
It knows nothing of pods: under policy Cluster any node whose kube-proxy is in order will do, under policy
Local only one that says on the Service's healthCheckNodePort that it has a ready endpoint. How the nodes
are asked, and how packets get there, is ``topo.cloud``'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address

from controller.api import objects
from controller.api.objects import Obj
from controller.api.wiring import KUBE_PROXY_HEALTH_PORT, RANGES
from topo.config import HealthCheckConfig

EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, order=True)
class Target:
    """Who is asked: a port of a node, by IP of that version; a balancer asks as it forwards."""

    node: str
    port: int
    version: int = 4


@dataclass(slots=True)
class _Record:
    healthy: bool | None = None
    against: int = 0
    """Answers in a row that contradict ``healthy``."""


@dataclass
class TargetHealth:
    """Each target's state from its answers, by the thresholds; None until the first."""

    config: HealthCheckConfig
    _records: dict[Target, _Record] = field(default_factory=dict)

    def follow(self, targets: Collection[Target]) -> None:
        """From now on these; what was known of others is forgotten."""
        self._records = {target: self._records.get(target) or _Record() for target in targets}

    def observe(self, target: Target, passed: bool) -> bool:
        """Count one answer; True when the target's state changed."""
        record = self._records.get(target)
        if record is None:
            return False
        if record.healthy is None:
            record.healthy = passed
            return True
        if passed == record.healthy:
            record.against = 0
            return False
        record.against += 1
        if record.against < (self.config.healthy if passed else self.config.unhealthy):
            return False
        record.healthy, record.against = passed, 0
        return True

    def state(self, target: Target) -> bool | None:
        record = self._records.get(target)
        return record.healthy if record else None

    def known(self) -> bool:
        """Whether every target has answered or failed to, at least once."""
        return all(record.healthy is not None for record in self._records.values())


def health_ports(services: Iterable[Obj]) -> dict[Address, int]:
    """Every external address of the pool that a Service holds, and the port on which its nodes are asked."""
    found: dict[Address, int] = {}
    for address, spec in _held(services):
        local = spec.get("externalTrafficPolicy") == "Local" and spec.get("healthCheckNodePort")
        found[address] = local or KUBE_PROXY_HEALTH_PORT
    return found


def affine(services: Iterable[Obj]) -> set[Address]:
    """External addresses whose clients must each stay with one node: ``sessionAffinity: ClientIP`` would
    be kept by every node alone, and so by none, if a client's connections met several."""
    return {address for address, spec in _held(services) if spec.get("sessionAffinity") == "ClientIP"}


def _held(services: Iterable[Obj]) -> Iterator[tuple[Address, Obj]]:
    """Each external address of the pool, with the spec of its Service."""
    for service in services:
        if service["spec"].get("type") != "LoadBalancer":
            continue
        for entry in (objects.status(service).get("loadBalancer") or {}).get("ingress") or ():
            if entry.get("ip") and entry.get("ipMode", "VIP") == "VIP":
                address = ip_address(entry["ip"])
                if any(address in ranges.load_balancers for ranges in RANGES.values()):
                    yield address, service["spec"]


def nodes_of_clients(
    clients: Iterable[Address],
    affine: Iterable[Address],
    ways: Mapping[Address, Sequence[str]],
) -> dict[tuple[Address, Address], str]:
    """(client, external address) -> the one node for it. By rendezvous: a client moves only when its node
    goes, or one comes that suits it better."""
    return {
        (client, address): max(ways[address], key=lambda node: _score(client, address, node))
        for address in affine
        if ways.get(address)
        for client in clients
        if client.version == address.version
    }


def _score(client: Address, address: Address, node: str) -> bytes:
    return sha256(f"{client} {address} {node}".encode()).digest()


def eligible(nodes: Iterable[Obj]) -> dict[str, dict[int, Address]]:
    """Nodes that may be targets, with the addresses at which they are asked, by version."""
    found: dict[str, dict[int, Address]] = {}
    for node in nodes:
        if EXCLUDE_LABEL in objects.labels(node) or objects.is_deleting(node):
            continue
        for entry in objects.status(node).get("addresses") or ():
            if entry["type"] == "InternalIP":
                address = ip_address(entry["address"])
                found.setdefault(objects.name(node), {}).setdefault(address.version, address)
    return found


def targets(ports: Mapping[Address, int], nodes: Iterable[str]) -> set[Target]:
    asked = {(port, address.version) for address, port in ports.items()}
    return {Target(node, port, version) for node in nodes for port, version in asked}


def ways(
    ports: Mapping[Address, int],
    nodes: Iterable[str],
    health: TargetHealth,
    before: Mapping[Address, Sequence[str]] | None = None,
) -> dict[Address, tuple[str, ...]]:
    """For each external address the nodes it leads to, by name; none: nobody is healthy.

    Until a node has been asked it counts as ``before``. An address that is new waits for all of them: the
    first connections would all meet the node that answered first.
    """
    names = sorted(nodes)
    found: dict[Address, tuple[str, ...]] = {}
    for address, port in ports.items():
        states = {name: health.state(Target(name, port, address.version)) for name in names}
        led_to = (before or {}).get(address)
        if led_to is not None or None not in states.values():
            found[address] = tuple(
                name for name, state in states.items() if (name in (led_to or ()) if state is None else state)
            )
    return found
