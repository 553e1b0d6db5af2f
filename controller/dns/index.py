"""The objects a DNS server answers from, kept by what is asked for: incremental, one object at a time.

``apply`` takes watch events and says which topics they change; the look-ups of a ``Reading`` note which
topics an answer depends on. Objects come in any order (a slice before its Service). What is answered with
them is ``records``'. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from controller.api.objects import Obj, annotation, labels, name, namespace, spec
from controller.dns.names import Address, dashed

SERVICE_LABEL = "kubernetes.io/service-name"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
NO_PORT = -1
"""The port of a Service or endpoint that declares none: it has addresses and no SRV."""
At = tuple[str, str]
"""Namespace and name of a Service."""
Topic = tuple[object, ...]
"""Something that is looked up: what it says is changed by ``apply`` only when that returns the topic."""
_ZONES: Topic = ("zones",)


@dataclass(frozen=True, slots=True)
class Port:
    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a Service object says about names."""

    namespace: str
    name: str
    headless: bool = False
    external_name: str = ""
    addresses: tuple[Address, ...] = ()
    ports: tuple[Port, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One ready address of an EndpointSlice."""

    address: Address
    hostname: str = ""
    target: str = ""
    zone: str = ""
    ports: tuple[Port, ...] = ()

    def label(self, *, pod_names: bool = False) -> str:
        """Its own label under the Service: hostname, else the pod's name if wished, else the address."""
        if self.hostname:
            return self.hostname
        return self.target if pod_names and self.target else dashed(self.address)


class Index:
    """All objects, by what is looked up."""

    def __init__(self) -> None:
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self.zones: set[str] = set()
        """Every topology zone an endpoint was ever in."""
        self._services: dict[At, Service] = {}
        self._by_address: dict[Address, dict[At, None]] = {}
        self._slices: dict[At, dict[str, tuple[Endpoint, ...]]] = {}
        self._slice_service: dict[At, At] = {}
        self._by_endpoint: dict[Address, dict[tuple[At, str], None]] = {}
        self._pods: dict[Address, dict[At, None]] = {}
        self._pod_addresses: dict[At, tuple[Address, ...]] = {}

    # -- events

    def apply(self, type: str, obj: Obj) -> frozenset[Topic]:
        """One event of a watch (ADDED, MODIFIED, DELETED); the topics it changes, none when no answer can
        be another one."""
        gone = type == "DELETED"
        match obj["kind"]:
            case "Service":
                return frozenset(
                    self._service((namespace(obj), name(obj)), None if gone else service_of(obj))
                )
            case "EndpointSlice":
                return frozenset(self._slice(obj, gone))
            case "Namespace":
                return frozenset(self._namespace(name(obj), None if gone else labels(obj)))
            case "Pod":
                return frozenset(self._pod((namespace(obj), name(obj)), () if gone else pod_addresses(obj)))
            case kind:
                raise AssertionError(f"no names come from a {kind}")

    def _service(self, at: At, new: Service | None) -> Iterator[Topic]:
        old = self._services.pop(at, None)
        if new is not None:
            self._services[at] = new
        if old == new:
            return
        before, after = old.addresses if old else (), new.addresses if new else ()
        _move(self._by_address, at, before, after)
        yield _about(at)
        yield from map(_at, {*before, *after})

    def _slice(self, obj: Obj, gone: bool) -> Iterator[Topic]:
        slice_at = (namespace(obj), name(obj))
        old_service = self._slice_service.pop(slice_at, None)
        service = labels(obj).get(SERVICE_LABEL)
        new_service = (slice_at[0], service) if service and not gone else None
        old = self._take(old_service, slice_at[1]) if old_service else ()
        new = tuple(endpoints_of(obj)) if new_service else ()
        if new_service:
            self._slice_service[slice_at] = new_service
            self._slices.setdefault(new_service, {})[slice_at[1]] = new
        if (old_service, old) == (new_service, new):
            return
        zones = {endpoint.zone for endpoint in new if endpoint.zone}
        if not zones <= self.zones:
            self.zones |= zones
            yield _ZONES
        before, after = [e.address for e in old], [e.address for e in new]
        if old_service:
            _move(self._by_endpoint, (old_service, slice_at[1]), before, ())
            yield _about(old_service)
        if new_service:
            _move(self._by_endpoint, (new_service, slice_at[1]), (), after)
            yield _about(new_service)
        yield from map(_at, {*before, *after})

    def _take(self, service: At, slice_name: str) -> tuple[Endpoint, ...]:
        held = self._slices[service]
        found = held.pop(slice_name)
        if not held:
            del self._slices[service]
        return found

    def _namespace(self, called: str, new: Mapping[str, str] | None) -> Iterator[Topic]:
        old = self.namespaces.pop(called, None)
        if new is not None:
            self.namespaces[called] = new
        if old != new:
            yield ("namespace", called)

    def _pod(self, at: At, new: tuple[Address, ...]) -> Iterator[Topic]:
        old = self._pod_addresses.pop(at, ())
        if new:
            self._pod_addresses[at] = new
        if old != new:
            _move(self._pods, at, old, new)
            yield from map(_at, {*old, *new})

    # -- look-ups

    def service(self, at: At) -> Service | None:
        return self._services.get(at)

    def service_of(self, slice: Obj) -> Service | None:
        """The Service an EndpointSlice belongs to."""
        return self._services.get((namespace(slice), labels(slice).get(SERVICE_LABEL, "")))

    def endpoints(self, at: At) -> Iterator[Endpoint]:
        """Of all slices of a Service, in the slices' order by name."""
        held = self._slices.get(at) or {}
        for slice_name in sorted(held):
            yield from held[slice_name]

    def owners(self, address: Address) -> list[At]:
        """Services that have the address as cluster IP, oldest knowledge first."""
        return list(self._by_address.get(address, ()))

    def slices_at(self, address: Address) -> list[tuple[At, list[Endpoint]]]:
        """The endpoints with the address, by the Service (which need not be there) of each slice."""
        return [
            (at, [e for e in self._slices[at][slice_name] if e.address == address])
            for at, slice_name in sorted(self._by_endpoint.get(address, ()))
        ]

    def has_pod(self, address: Address, namespace: str) -> bool:
        return any(at[0] == namespace for at in self._pods.get(address, ()))


@dataclass(frozen=True)
class Reading:
    """An index as one answer reads it; ``topics`` is what the answer depends on."""

    index: Index
    topics: set[Topic] = field(default_factory=set)

    def namespace(self, called: str) -> Mapping[str, str] | None:
        """A namespace's labels, None when there is none."""
        self.topics.add(("namespace", called))
        return self.index.namespaces.get(called)

    def zones(self) -> set[str]:
        self.topics.add(_ZONES)
        return self.index.zones

    def service(self, namespace: str, name: str) -> Service | None:
        self.topics.add(_about((namespace, name)))
        return self.index.service((namespace, name))

    def endpoints(self, namespace: str, name: str) -> Iterator[Endpoint]:
        self.topics.add(_about((namespace, name)))
        return self.index.endpoints((namespace, name))

    def services_at(self, address: Address) -> Iterator[Service]:
        """Services that have the address as cluster IP, oldest knowledge first."""
        self.topics.add(_at(address))
        for at in self.index.owners(address):
            if (service := self.service(*at)) is not None:
                yield service

    def endpoints_at(self, address: Address) -> Iterator[tuple[Service, Endpoint]]:
        """Every (Service, endpoint) with the address."""
        self.topics.add(_at(address))
        for at, endpoints in self.index.slices_at(address):
            if (service := self.service(*at)) is not None:
                for endpoint in endpoints:
                    yield service, endpoint

    def has_pod(self, address: Address, namespace: str) -> bool:
        self.topics.add(_at(address))
        return self.index.has_pod(address, namespace)


def _about(at: At) -> Topic:
    """A Service and its endpoints."""
    return ("service", *at)


def _at(address: Address) -> Topic:
    """Who has an address."""
    return ("address", address)


def _move(
    held: dict[Address, dict[Any, None]], item: Any, old: Iterable[Address], new: Iterable[Address]
) -> None:
    """Take an item from its old addresses to its new ones."""
    for address in old:
        items = held.get(address)
        if items is not None:
            items.pop(item, None)
            if not items:
                del held[address]
    for address in new:
        held.setdefault(address, {})[item] = None


def service_of(obj: Obj) -> Service:
    """What there is to know of a Service object."""
    said = spec(obj)
    external = said.get("externalName") or "" if said.get("type") == "ExternalName" else ""
    cluster_ips = said.get("clusterIPs") or [said["clusterIP"]] if said.get("clusterIP") else []
    headless = "None" in cluster_ips
    ports = tuple(
        Port(port.get("name") or "", (port.get("protocol") or "TCP").lower(), int(port["port"]))
        for port in said.get("ports") or ()
    )
    return Service(
        namespace=namespace(obj),
        name=name(obj),
        headless=headless and not external,
        external_name=external,
        addresses=() if headless or external else tuple(ip_address(ip) for ip in cluster_ips),
        ports=ports or (Port("", "", NO_PORT),),
        labels=labels(obj),
    )


def endpoints_of(obj: Obj) -> Iterator[Endpoint]:
    """The ready endpoints of a slice; none of addressType FQDN."""
    if obj.get("addressType") == "FQDN":
        return
    ports = tuple(
        Port(port.get("name") or "", (port.get("protocol") or "TCP").lower(), int(port["port"]))
        for port in obj.get("ports") or ()
        if port.get("port") is not None
    ) or (Port("", "", NO_PORT),)
    for endpoint in obj.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready") is False:
            continue
        target = endpoint.get("targetRef") or {}
        for address in endpoint.get("addresses") or ():
            yield Endpoint(
                address=ip_address(address),
                hostname=(endpoint.get("hostname") or "").lower(),
                target=target.get("name") or "" if target.get("kind") == "Pod" else "",
                zone=endpoint.get("zone") or "",
                ports=ports,
            )


def pod_addresses(obj: Obj) -> tuple[Address, ...]:
    """A pod's own addresses while it lives; its node's are not its own."""
    status = obj.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return ()
    found = [entry["ip"] for entry in status.get("podIPs") or ()]
    return tuple(ip_address(ip) for ip in found or ([status["podIP"]] if status.get("podIP") else []))


def trigger_time(obj: Obj) -> str | None:
    """When what an EndpointSlice tells of happened, RFC 3339; None when it does not say."""
    return annotation(obj, TRIGGER_TIME)
