"""UDP connections that lead where they no longer should: what to make conntrack forget, and when.

UDP has no end: a client that keeps its source port would be sent to an endpoint that is gone for as long
as it goes on asking. TCP is left alone: it ends by itself, and a pod may finish what it has begun.
Pure values; ``openflow.flush`` encodes them, ``switch`` sends them after the flows they belong to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from controller.kubeproxy.fields import FAMILIES
from controller.kubeproxy.node import Node
from controller.kubeproxy.services import Address, Endpoint, ServicePort


class Stale(NamedTuple):
    """UDP connections in a zone that asked for ``asked``:``port``; of one endpoint, or of all (None)."""

    zone: int
    asked: Address
    port: int
    endpoint: Address | None = None
    endpoint_port: int = 0


def serving(endpoints: Iterable[Endpoint]) -> Iterator[Endpoint]:
    """Whose connections stay, chosen or not: one that ends may answer what it was asked, as with TCP.
    Neither traffic policy nor nearness count, as in upstream's CleanStaleEntries."""
    return (endpoint for endpoint in endpoints if endpoint.serving)


def ways(port: ServicePort, endpoints: Iterable[Endpoint], node: Node) -> frozenset[Stale]:
    """Every way a UDP Service port offers here: each of its addresses to each endpoint, and to nobody."""
    if port.name.protocol != "UDP":
        return frozenset()
    asked = [(address, port.port) for address in (port.cluster_ip, *port.external_addresses)]
    if port.node_port:
        own = node.address, node.family.ranges.node_port_virtual
        asked += [(address, port.node_port) for address in own]
    zone = node.dnat_zone
    found = {Stale(zone, address, number, e.address, e.port) for address, number in asked for e in endpoints}
    return frozenset(found | {Stale(zone, address, number) for address, number in asked})


def outdated(before: frozenset[Stale], after: frozenset[Stale]) -> set[Stale]:
    """What to forget when the ways of a port change.

    Ways that are gone, all of an address at once when it is gone itself. And what asked for a new external
    address while it was nobody's: that went to the outside world, and would go on doing so. (A ClusterIP
    or NodePort that is nobody's is never tracked.)
    """
    gone = {way for way in before - after if way.endpoint is None or _to_all(way) in after}
    came = {way for way in after - before if way.endpoint is None} if before else set()
    return gone | {way for way in came if not any(way.asked in f.ranges.services for f in FAMILIES.values())}


def _to_all(way: Stale) -> Stale:
    return Stale(way.zone, way.asked, way.port)


class Forgetting:
    """What is to be forgotten now, and what once more after ``again_after`` seconds: the datapath's cached
    flows outlive the barrier by some milliseconds, and a datagram that meets them brings the connection
    back."""

    def __init__(self, again_after: float) -> None:
        self._after = again_after
        self._due: set[Stale] = set()
        self._pending: set[Stale] = set()
        self.again_at = math.inf

    @property
    def due(self) -> bool:
        return bool(self._due)

    def add(self, stale: Iterable[Stale]) -> None:
        self._due.update(stale)

    def wake(self, now: float) -> None:
        if now >= self.again_at:
            self._due |= self._pending

    def take(self, now: float) -> set[Stale]:
        """All that is due; what was not taken before comes once more."""
        taken, self._due = self._due, set()
        if taken == self._pending:
            self._pending, self.again_at = set(), math.inf
        else:
            self._pending, self.again_at = taken | self._pending, now + self._after
        return taken
