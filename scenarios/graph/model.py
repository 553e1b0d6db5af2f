"""The graph as values: workloads, Services, what is outside, and edges with the reason of each.

Nothing here reads an object (``build``) or draws one (``show``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

Id = str
"""``Deployment shop/cart``, ``Service shop/cart``, ``outside api.example.com``."""


@dataclass(frozen=True, kw_only=True)
class Port:
    """A Service's port."""

    number: int
    name: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Whatever makes pods, and an Ingress, which sends somebody else's. ``main`` is its first container."""

    kind: str
    namespace: str
    name: str
    replicas: int | None = None
    images: tuple[str, ...] = ()
    main: str = ""

    @property
    def id(self) -> Id:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Service:
    """``backends`` are the workloads whose pods it selects; ``outside`` is an ExternalName's host."""

    namespace: str
    name: str
    type: str = "ClusterIP"
    headless: bool = False
    ports: tuple[Port, ...] = ()
    backends: tuple[Id, ...] = ()
    outside: str = ""

    @property
    def id(self) -> Id:
        return f"Service {self.namespace}/{self.name}"

    def port(self, number: int) -> Port | None:
        return next((port for port in self.ports if port.number == number), None)


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Where an address is written: ``origin`` is empty for a variable with a plain value, else
    ``ConfigMap NAME``, ``Secret NAME``, ``args``, ``command``, ``rules``. ``said`` is host or host:port."""

    container: str
    name: str
    origin: str = ""
    said: str

    @property
    def text(self) -> str:
        """``CART_ADDR (ConfigMap shop)``."""
        return f"{self.name} ({self.origin})" if self.name and self.origin else self.name or self.origin


@dataclass(frozen=True, kw_only=True)
class Edge:
    """``source`` would talk to ``target`` (a Service or somebody outside) on ``port`` (None: not said).
    ``hosts`` are the names as written: several where somebody names the pods of a headless Service."""

    source: Id
    target: Id
    hosts: tuple[str, ...]
    port: int | None = None
    port_name: str = ""
    protocol: str = "TCP"
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of an edge in a running lab: ``ok``, ``refused``, ``NXDOMAIN``, ``not tried: ...``.
    ``name_ms`` is what the name took, ``ms`` the connection."""

    outcome: str
    pod: str = ""
    host: str = ""
    address: str = ""
    port: int | None = None
    name_ms: float | None = None
    ms: float | None = None
    failed: bool = False

    @property
    def text(self) -> str:
        """``ok  10.96.47.11:7070 from cart-0, 1.2 ms (name 0.8 ms)``."""
        at = f"{self.address}:{self.port}" if self.address and self.port else self.address
        where = " ".join(filter(None, (at, f"from {self.pod}" if self.name_ms is not None else "")))
        times = [] if self.ms is None else [f"{self.ms:.1f} ms"]
        times += [] if self.name_ms is None else [f"name {self.name_ms:.1f} ms"]
        return ", ".join(filter(None, (self.outcome, where, *times)))


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """What does not fit together: ``kind`` is ``port``, ``unknown``, ``missing`` or ``selector``."""

    kind: str
    about: Id
    text: str


@dataclass(frozen=True, kw_only=True)
class Graph:
    """All of it, in a fixed order: by namespace and name, edges by source and then as they are written."""

    workloads: tuple[Workload, ...] = ()
    services: tuple[Service, ...] = ()
    outside: tuple[str, ...] = ()
    edges: tuple[Edge, ...] = ()
    warnings: tuple[Doubt, ...] = ()

    def from_(self, id: Id) -> list[Edge]:
        return [edge for edge in self.edges if edge.source == id]

    def in_front_of(self, id: Id) -> list[Service]:
        """The Services that lead to a workload."""
        return [service for service in self.services if id in service.backends]

    def service(self, id: Id) -> Service | None:
        return next((service for service in self.services if service.id == id), None)

    def workload(self, id: Id) -> Workload | None:
        return next((workload for workload in self.workloads if workload.id == id), None)


def within(graph: Graph, keep: Callable[[str], bool]) -> Graph:
    """The graph of some namespaces: their workloads and Services, and whatever those lead to."""
    workloads = tuple(one for one in graph.workloads if keep(one.namespace))
    kept = {one.id for one in workloads}
    edges = tuple(edge for edge in graph.edges if edge.source in kept)
    reached = {edge.target for edge in edges}
    services = tuple(one for one in graph.services if keep(one.namespace) or one.id in reached)
    ends = reached | {f"outside {one.outside}" for one in services}
    more = {backend for one in services for backend in one.backends}
    return Graph(
        workloads=tuple(one for one in graph.workloads if one.id in kept | more),
        services=services,
        outside=tuple(host for host in graph.outside if f"outside {host}" in ends),
        edges=edges,
        warnings=tuple(d for d in graph.warnings if d.about in kept | {s.id for s in services}),
    )


def merged(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    """One edge for each (source, target, port), with all of its reasons."""
    found: dict[tuple[Id, Id, int | None], Edge] = {}
    for edge in edges:
        at = (edge.source, edge.target, edge.port)
        if at in found:
            reasons = tuple(dict.fromkeys((*found[at].reasons, *edge.reasons)))
            hosts = tuple(dict.fromkeys((*found[at].hosts, *edge.hosts)))
            found[at] = replace(found[at], reasons=reasons, hosts=hosts)
        else:
            found[at] = edge
    return tuple(found.values())
