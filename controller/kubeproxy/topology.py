"""Which endpoints of a Service port get traffic on this node: upstream's CategorizeEndpoints.

Pure choice among ``Endpoint`` values; no addresses of nodes, no flows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controller.kubeproxy.services import Endpoint, ServicePort


@dataclass(frozen=True, slots=True)
class Chosen:
    """``cluster``: for policy Cluster; ``local``: for policy Local, empty when no policy is Local."""

    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()

    @property
    def all(self) -> tuple[Endpoint, ...]:
        return self.cluster + tuple(e for e in self.local if e not in self.cluster)


def usable(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The ready ones; when none is, those that still serve while they terminate (KEP-1669)."""
    endpoints = sorted(endpoints)
    ready = tuple(e for e in endpoints if e.ready)
    return ready or tuple(e for e in endpoints if e.serving and e.terminating)


def categorize(endpoints: Iterable[Endpoint], port: ServicePort, node: str) -> Chosen:
    """The endpoints for each traffic policy of this port, seen from ``node``."""
    endpoints = list(endpoints)
    local: tuple[Endpoint, ...] = ()
    if port.internal_local or port.external_local:
        local = usable(e for e in endpoints if e.node == node)
    return Chosen(usable(endpoints), local)
