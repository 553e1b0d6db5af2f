"""Which endpoints of a Service port get traffic on this node: upstream's CategorizeEndpoints.

Pure choice among ``Endpoint`` values; no addresses of nodes, no flows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from controller.kubeproxy.services import Endpoint, ServicePort, in_order


@dataclass(frozen=True, slots=True)
class Chosen:
    """``cluster``: for policy Cluster; ``local``: for policy Local. Each empty when no policy uses it.

    ``any``: some endpoint on some node could serve, so having none here is a matter of policy.
    """

    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    any: bool = False

    @property
    def all(self) -> Sequence[Endpoint]:
        """Each once."""
        return (
            tuple({*self.cluster, *self.local}) if self.cluster and self.local else self.cluster or self.local
        )


def usable(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The ready ones; when none is, those that still serve while they terminate (KEP-1669)."""
    endpoints = list(endpoints)
    ready = tuple(e for e in endpoints if e.ready)
    return ready or tuple(e for e in endpoints if e.serving and e.terminating)


def categorize(endpoints: Iterable[Endpoint], port: ServicePort, node: str, zone: str = "") -> Chosen:
    """The endpoints for each traffic policy of this port, seen from ``node`` in ``zone``."""
    endpoints = in_order(endpoints)
    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    if port.uses_cluster:
        near = near_by(endpoints, node, zone)
        cluster = tuple(e for e in endpoints if e.ready and near(e)) or usable(endpoints)
    if port.internal_local or (port.external_local and port.is_external):
        local = usable(e for e in endpoints if e.node == node)
    return Chosen(cluster, local, any(e.ready or (e.serving and e.terminating) for e in endpoints))


def near_by(endpoints: Sequence[Endpoint], node: str, zone: str) -> Callable[[Endpoint], bool]:
    """Whom the hints let serve here: the same node's, else the same zone's, else everyone.

    Hints count only when every ready endpoint has one and one of them is for here (KEP-2433, KEP-3015):
    half a set of hints would leave some endpoints without traffic, or this node without endpoints.
    """
    ready = [e for e in endpoints if e.ready]
    if all(e.node_hints for e in ready) and any(node in e.node_hints for e in ready):
        return lambda e: node in e.node_hints
    if zone and all(e.zone_hints for e in ready) and any(zone in e.zone_hints for e in ready):
        return lambda e: zone in e.zone_hints
    return lambda e: True
