"""Objects to answers: Kubernetes' DNS specification 1.1.0, and CoreDNS' ways where it is silent. Pure.

``answer`` is one question on one zone of the kubernetes plugin. What lies outside (an ExternalName's
target, reverse names of strangers) is said so and asked elsewhere. Messages and bytes are ``wire``'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address
from typing import NamedTuple

from controller.api.objects import matches
from controller.dns.index import NO_PORT, Endpoint, Index, Port, Reading, Service, Topic
from controller.dns.names import (
    PIN,
    POD,
    PREFER,
    SERVICE,
    Address,
    Name,
    NoSuchName,
    Request,
    is_below,
    is_reverse,
    lower,
    name_of,
    parse,
    reverse_address,
    undashed,
)

VERSION = "1.1.0"
VERSION_TTL = 28800
_MAX_CNAMES = 8
_SOA_TIMES = (7200, 1800, 86400)
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = "NOERROR", "SERVFAIL", "NXDOMAIN", "REFUSED"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The kubernetes plugin's, with its defaults."""

    zones: tuple[Name, ...] = (("cluster", "local"),)
    namespaces: tuple[str, ...] = ()
    namespace_labels: str = ""
    labels: str = ""
    pods: str = "disabled"
    """disabled, insecure or verified."""
    endpoint_pod_names: bool = False
    ttl: int = 5
    noendpoints: bool = False
    fallthrough: tuple[Name, ...] | None = None
    """Zones whose missing names are asked of the next plugin; () is every zone, None no zone."""
    ignore_empty_service: bool = False
    zonal: bool = False


class Record(NamedTuple):
    """``data``: an address; (target,) of CNAME, PTR and NS; (priority, weight, port, target) of SRV;
    (text,) of TXT; (ns, mbox, serial, refresh, retry, expire, minimum) of SOA. Names are label tuples."""

    name: Name
    ttl: int
    type: str
    data: tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``follow``: a name outside the zones whose records (of the type asked) belong behind the answers.
    ``fall_through``: no such name here, and the next plugin may know it. ``topics``: what of the index it
    depends on; but for the SOA's serial it stays as it is until one of them changes."""

    rcode: str = NOERROR
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    extra: tuple[Record, ...] = ()
    follow: Name | None = None
    fall_through: bool = False
    topics: frozenset[Topic] = frozenset()


class Target(NamedTuple):
    """One address (or another name) that a name stands for, at one port."""

    host: Address | Name
    port: int
    name: Name


def zone_of(name: Name, options: Options) -> Name | None:
    """The longest of the plugin's zones that holds the name."""
    low = lower(name)
    found = [zone for zone in options.zones if is_below(low, zone)]
    return max(found, key=len) if found else None


def soa(zone: Name, options: Options, serial: int) -> Record:
    """As CoreDNS makes it: negative answers live as long as positive ones."""
    data = (("ns", "dns", *zone), ("hostmaster", *zone), serial & 0xFFFFFFFF, *_SOA_TIMES, options.ttl)
    return Record(zone, min(options.ttl, 300), "SOA", data)


def answer(
    index: Index,
    options: Options,
    name: Name,
    type: str,
    *,
    serial: int,
    synced: bool = True,
    own: Sequence[Address] = (),
) -> Answer:
    """What the plugin says to (name, type) of class IN; the name must lie in one of its zones.

    ``own`` are the server's addresses (of its Service, or its pod's): what NS names. Before the first
    lists are in, missing names are a server failure, since nobody can know that they are missing.
    """
    zone = zone_of(name, options)
    assert zone is not None, f"{name} lies in no zone of {options.zones}"
    zone = name[len(name) - len(zone) :]
    reading = Reading(index)
    try:
        found = _View(reading, options, zone, own).records(name, type)
    except NoSuchName:
        falls = options.fallthrough
        if falls is not None and (not falls or any(is_below(lower(name), z) for z in falls)):
            found = Answer(rcode=NXDOMAIN, fall_through=True)
        else:
            rcode = NXDOMAIN if synced else SERVFAIL
            found = Answer(rcode=rcode, authority=(soa(zone, options, serial),))
    else:
        if type == "SOA" and name == zone:
            found = Answer(answers=(soa(zone, options, serial),))
        elif not found.answers and found.follow is None:
            found = Answer(authority=(soa(zone, options, serial),))
    return replace(found, topics=frozenset(reading.topics))


@dataclass(frozen=True)
class _View:
    """The objects as one zone shows them."""

    index: Reading
    options: Options
    zone: Name
    own: Sequence[Address]

    def records(self, name: Name, type: str) -> Answer:
        """NoSuchName where nothing has the name, an empty Answer where it has no such records."""
        match type:
            case "A" | "AAAA":
                return self._addresses(name, type, ())
            case "SRV":
                return self._srv(name)
            case "PTR":
                return self._ptr(name)
            case "CNAME":
                made = [self._record(name, "CNAME", t.host) for t in self._targets(name) if _is_name(t)]
                return Answer(answers=tuple(made[:1]))
            case "TXT":
                return self._txt(name)
            case "NS" if name == self.zone:
                return self._ns()
        self._targets(name)
        return Answer()

    # -- what a name stands for

    def _targets(self, name: Name) -> list[Target]:
        below = name[: len(name) - len(self.zone)]
        if is_reverse(self.zone):
            return self._reverse(name)
        if lower(below) == ("ns", "dns"):
            return [Target(address, NO_PORT, name) for address in self.own]
        if lower(below) in (("dns-version",), ("dns",)):
            return []  # they exist, with TXT and with ns below it (CoreDNS says NXDOMAIN)
        request = parse(below, zonal=self.options.zonal)
        if not request.kind:
            return []
        if not self._exposes(request.namespace):
            raise NoSuchName
        if not request.service:
            return []
        return self._pods(request) if request.kind == POD else list(self._services(request))

    def _reverse(self, name: Name) -> list[Target]:
        """A reverse name has PTR records or does not exist; either way no other ones."""
        if name != self.zone and not self._ptr(name).answers:
            raise NoSuchName
        return []

    def _exposes(self, namespace: str) -> bool:
        labels = self.index.namespace(namespace)
        if labels is None:
            return False
        chosen = self.options.namespaces
        return (not chosen or namespace in chosen) and matches(self.options.namespace_labels, labels)

    def _pods(self, request: Request) -> list[Target]:
        address = undashed(request.service)
        if self.options.pods == "disabled" or address is None:
            raise NoSuchName
        if self.options.pods == "verified" and not self.index.has_pod(address, request.namespace):
            raise NoSuchName
        return [Target(address, NO_PORT, (request.service, request.namespace, POD, *self.zone))]

    def _services(self, request: Request) -> Iterator[Target]:
        service = self.index.service(request.namespace, request.service)
        if service is None or not matches(self.options.labels, service.labels):
            raise NoSuchName
        home = (service.name, service.namespace, SERVICE, *self.zone)
        if service.external_name:
            external = _as_address(service.external_name)
            if request.endpoint or request.port or request.protocol or request.spread or external:
                raise NoSuchName
            return iter([Target(name_of(service.external_name), NO_PORT, home)])
        if request.spread and not service.headless:
            raise NoSuchName
        if service.headless or request.endpoint:
            return iter(self._endpoint_targets(service, request, home))
        if self.options.ignore_empty_service and not any(self._endpoints(service)):
            raise NoSuchName
        ports = [port for port in service.ports if _fits(request, port)]
        if not ports:
            raise NoSuchName
        return (Target(address, port.number, home) for port in ports for address in service.addresses)

    def _endpoint_targets(self, service: Service, request: Request, home: Name) -> list[Target]:
        made = []
        for endpoint in self._in_zone(list(self._endpoints(service)), request):
            label = endpoint.label(pod_names=self.options.endpoint_pod_names)
            if request.endpoint and label != request.endpoint:
                continue
            made += [
                Target(endpoint.address, port.number, (label, *home))
                for port in endpoint.ports
                if _fits(request, port)
            ]
        if not made and not (request.spread == PIN and request.zone in self.index.zones()):
            raise NoSuchName
        return made

    def _endpoints(self, service: Service) -> Iterator[Endpoint]:
        if not self.options.noendpoints:
            yield from self.index.endpoints(service.namespace, service.name)

    def _in_zone(self, endpoints: list[Endpoint], request: Request) -> list[Endpoint]:
        """``pin`` keeps to the zone, ``prefer`` goes to all when it is empty; only known zones count."""
        if not request.spread:
            return endpoints
        if request.zone not in {zone.lower() for zone in self.index.zones()}:
            raise NoSuchName
        near = [endpoint for endpoint in endpoints if endpoint.zone.lower() == request.zone]
        return near or (endpoints if request.spread == PREFER else [])

    # -- records by type

    def _record(self, name: Name, type: str, *data: object) -> Record:
        return Record(name, self.options.ttl, type, data)

    def _addresses(self, name: Name, type: str, before: tuple[Name, ...]) -> Answer:
        made: list[Record] = []
        version = 4 if type == "A" else 6
        for target in self._targets(name):
            host = target.host
            if isinstance(host, tuple):
                return self._alias(name, host, type, before)
            if host.version == version:
                made.append(self._record(name, type, host))
        return Answer(answers=tuple(dict.fromkeys(made)))

    def _alias(self, name: Name, host: Name, type: str, before: tuple[Name, ...]) -> Answer:
        """A CNAME and what it leads to; nothing when it leads in a circle or to nothing in the zone."""
        seen = (*before, lower(name))
        if lower(host) in seen or len(seen) >= _MAX_CNAMES:
            return Answer()
        cname = self._record(name, "CNAME", host)
        if not is_below(lower(host), lower(self.zone)):
            return Answer(answers=(cname,), follow=host)
        try:
            then = self._addresses(host, type, seen)
        except NoSuchName:
            return Answer()
        if not then.answers:
            return Answer()
        return Answer(answers=(cname, *then.answers), follow=then.follow)

    def _srv(self, name: Name) -> Answer:
        targets = [target for target in self._targets(name) if not _is_name(target)]
        weight = max(1, 100 // len(targets)) if targets else 0
        answers: dict[Record, None] = {}
        extra: dict[Record, None] = {}
        for target in targets:
            if target.port != NO_PORT and not isinstance(target.host, tuple):
                answers[self._record(name, "SRV", 0, weight, target.port, target.name)] = None
                extra[self._record(target.name, _type_of(target.host), target.host)] = None
        return Answer(answers=tuple(answers), extra=tuple(extra))

    def _ptr(self, name: Name) -> Answer:
        address = reverse_address(name)
        if address is None:
            if not is_reverse(self.zone):
                self._targets(name)
            elif name != self.zone:
                raise NoSuchName
            return Answer()
        home = next((zone for zone in self.options.zones if not is_reverse(zone)), self.zone)
        for service in self.index.services_at(address):
            if self._exposes(service.namespace) and matches(self.options.labels, service.labels):
                owner = (service.name, service.namespace, SERVICE, *home)
                return Answer(answers=(self._record(name, "PTR", owner),))
        made: dict[Record, None] = {}
        for service, endpoint in () if self.options.noendpoints else self.index.endpoints_at(address):
            if self._exposes(service.namespace) and matches(self.options.labels, service.labels):
                label = endpoint.label(pod_names=self.options.endpoint_pod_names)
                owner = (label, service.name, service.namespace, SERVICE, *home)
                made[self._record(name, "PTR", owner)] = None
        if not made:
            raise NoSuchName
        return Answer(answers=tuple(made))

    def _txt(self, name: Name) -> Answer:
        if lower(name[: len(name) - len(self.zone)]) == ("dns-version",) and not is_reverse(self.zone):
            return Answer(answers=(Record(name, VERSION_TTL, "TXT", (VERSION,)),))
        self._targets(name)
        return Answer()

    def _ns(self) -> Answer:
        """The Services whose address is the server's; before there is one, its pod's own name."""
        names: dict[Name, list[Address]] = {}
        for address in self.own:
            owners = [(s.name, s.namespace, SERVICE, *self.zone) for s in self.index.services_at(address)]
            for owner in owners or [("ns", "dns", *self.zone)]:
                names.setdefault(owner, []).append(address)
        return Answer(
            answers=tuple(self._record(self.zone, "NS", owner) for owner in names),
            extra=tuple(
                self._record(owner, _type_of(address), address)
                for owner, addresses in names.items()
                for address in addresses
            ),
        )


def _fits(request: Request, port: Port) -> bool:
    return request.port in ("", port.name.lower()) and request.protocol in ("", port.protocol)


def _is_name(target: Target) -> bool:
    return isinstance(target.host, tuple)


def _type_of(address: Address) -> str:
    return "A" if isinstance(address, IPv4Address) else "AAAA"


def _as_address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


__all__ = [
    "NOERROR", "NXDOMAIN", "REFUSED", "SERVFAIL", "VERSION", "Answer", "Options", "Record", "answer",
    "soa", "zone_of",
]  # fmt: skip
