"""Which request goes to which endpoints: Ingresses, Services and EndpointSlices as one table. Pure.

The semantics are the API reference's (networking.k8s.io/v1) and, where that leaves it to the controller,
ingress-nginx': a request's host is chosen first, ImplementationSpecific is Prefix, the older Ingress wins.
Whatever a name or path holds, what leaves here is harmless text; nothing here knows nginx.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import unquote

from controller.api.objects import Obj

CONTROLLER = "k8s.io/ingress-nginx"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
ANNOTATIONS = "nginx.ingress.kubernetes.io/"
KINDS = ("Ingress", "IngressClass", "Service", "EndpointSlice")

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_PATH = re.compile(r"""/[^\x00-\x20\x7f"'\\;{}$`<>|]*""")


class Location(NamedTuple):
    """A path of a host. ``prefix``: with everything below it, element by element; "" is every path."""

    path: str
    prefix: bool
    upstream: str


@dataclass(frozen=True, kw_only=True)
class Server:
    """One host's locations. "" is the host of whoever asked for no other; ``*.`` stands for one label."""

    host: str
    locations: tuple[Location, ...]


@dataclass(frozen=True, kw_only=True)
class Note:
    """What an Ingress asked for and does not get."""

    ingress: tuple[str, str]
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Routes:
    """``upstreams``: addresses with port by name, none where nobody is ready. ``ingresses`` are ours."""

    servers: tuple[Server, ...] = ()
    upstreams: Mapping[str, tuple[str, ...]]
    ingresses: tuple[Obj, ...] = ()
    notes: tuple[Note, ...] = ()


class Wrong(Exception):
    """Why a rule is left out."""


def routes(objects: Iterable[Obj], *, without: Sequence[tuple[str, str]] = ()) -> Routes:
    """The table of what is wanted; ``without`` names Ingresses that are to be left out of it."""
    held: dict[str, list[Obj]] = {kind: [] for kind in KINDS}
    for obj in objects:
        held[obj["kind"]].append(obj)
    classes = held["IngressClass"]
    mine = sorted((i for i in held["Ingress"] if _ours(i, classes)), key=_age)
    table = _Table(_services(held["Service"]), held["EndpointSlice"])
    for ingress in mine:
        if name_of(ingress) not in without:
            table.add(ingress)
    servers = [
        Server(host=host, locations=tuple(sorted(table.hosts[host].values()))) for host in sorted(table.hosts)
    ]
    return Routes(
        servers=tuple(servers),
        upstreams=dict(sorted(table.upstreams.items())),
        ingresses=tuple(mine),
        notes=tuple(table.notes),
    )


def match(locations: Iterable[Location], path: str) -> Location | None:
    """The location of a path: of those that fit the longest, and of equally long ones the exact."""
    fitting = [one for one in locations if path == one.path or (one.prefix and _below(path, one.path))]
    return max(fitting, key=lambda one: (len(one.path), not one.prefix), default=None)


def _below(path: str, prefix: str) -> bool:
    return path.startswith(prefix + "/")


def name_of(obj: Obj) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _age(obj: Obj) -> tuple[str, str, str]:
    return str(obj["metadata"].get("creationTimestamp") or ""), *name_of(obj)


def _ours(ingress: Obj, classes: Sequence[Obj]) -> bool:
    """By class, by the annotation that was there before classes, or by a class of ours that is default."""
    ours = [one for one in classes if (one.get("spec") or {}).get("controller") == CONTROLLER]
    annotations = ingress["metadata"].get("annotations") or {}
    wanted = (ingress.get("spec") or {}).get("ingressClassName")
    if wanted:
        return any(one["metadata"]["name"] == wanted for one in ours)
    if CLASS_ANNOTATION in annotations:
        return bool(annotations[CLASS_ANNOTATION] == "nginx")
    return any((one["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true" for one in ours)


def _services(services: Iterable[Obj]) -> dict[tuple[str, str], Obj]:
    return {name_of(service): service for service in services}


class _Table:
    """The routes while they are collected, the oldest Ingress first."""

    def __init__(self, services: Mapping[tuple[str, str], Obj], slices: Iterable[Obj]) -> None:
        self.hosts: dict[str, dict[tuple[str, bool], Location]] = {}
        self.upstreams: dict[str, tuple[str, ...]] = {}
        self.notes: list[Note] = []
        self._owners: dict[tuple[str, str, bool], tuple[str, str]] = {}
        self._services = services
        self._slices: dict[tuple[str, str], list[Obj]] = {}
        for one in slices:
            name = (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name", "")
            self._slices.setdefault((one["metadata"]["namespace"], name), []).append(one)

    def add(self, ingress: Obj) -> None:
        spec: Mapping[str, Any] = ingress.get("spec") or {}
        unknown = [a for a in ingress["metadata"].get("annotations") or () if a.startswith(ANNOTATIONS)]
        if unknown:
            self._note(ingress, "Ignored", f"nothing here acts on {', '.join(sorted(unknown))}")
        if spec.get("tls"):
            self._note(
                ingress,
                "Ignored",
                "spec.tls: this controller reads no Secrets; its hosts are served on port 80",
            )
        hosts = []
        for number, rule in enumerate(spec.get("rules") or ()):
            paths = (rule.get("http") or {}).get("paths") or ()
            try:
                host = _host(rule.get("host") or "")
            except Wrong as wrong:
                self._note(ingress, "Rejected", f"spec.rules[{number}] is left out: {wrong}")
                continue
            hosts.append(host)
            self.hosts.setdefault(host, {})
            for place, path in enumerate(paths):
                where = f"spec.rules[{number}].http.paths[{place}]"
                try:
                    self._path(ingress, where, host, *_path(path), path.get("backend") or {})
                except Wrong as wrong:
                    self._note(ingress, "Rejected", f"{where} is left out: {wrong}")
        default = spec.get("defaultBackend")
        if default:
            try:
                for host in dict.fromkeys([*hosts, ""]):
                    self._path(ingress, "spec.defaultBackend", host, "", True, default, quiet=True)
            except Wrong as wrong:
                self._note(ingress, "Rejected", f"spec.defaultBackend is left out: {wrong}")

    def _path(
        self,
        ingress: Obj,
        where: str,
        host: str,
        path: str,
        prefix: bool,
        backend: Obj,
        *,
        quiet: bool = False,
    ) -> None:
        key = (host, path, prefix)
        owner = self._owners.get(key)
        if owner is not None:
            if not quiet:
                other = "/".join(owner)
                raise Wrong(f"{host or 'every host'}{path or '/'} belongs to Ingress {other} already")
            return
        upstream = self._upstream(ingress, where, backend)
        self._owners[key] = name_of(ingress)
        self.hosts.setdefault(host, {})[path, prefix] = Location(path, prefix, upstream)

    def _upstream(self, ingress: Obj, where: str, backend: Obj) -> str:
        """The name of the backend's upstream; it has no address when nobody is ready to answer."""
        asked = backend.get("service")
        if not asked:
            raise Wrong("only a Service can be a backend here")
        namespace, name = ingress["metadata"]["namespace"], str(asked.get("name"))
        port = asked.get("port") or {}
        wanted = port.get("name") or port.get("number")
        if not _NAME.fullmatch(name) or not _NAME.fullmatch(str(wanted)):
            raise Wrong(f"{name!r} and {wanted!r} do not name a Service and its port")
        found = f"{namespace}_{name}_{wanted}"
        if found in self.upstreams:
            return found
        service = self._services.get((namespace, name))
        if service is None:
            self._note(ingress, "Unavailable", f"{where}: there is no Service {name}; it answers 503")
            self.upstreams[found] = ()
            return found
        ports = (service.get("spec") or {}).get("ports") or ()
        mine = next((p for p in ports if wanted in (p.get("name"), p.get("port"))), None)
        if mine is None:
            self._note(
                ingress, "Unavailable", f"{where}: Service {name} has no port {wanted}; it answers 503"
            )
            self.upstreams[found] = ()
            return found
        slices = self._slices.get((namespace, name), ())
        self.upstreams[found] = tuple(sorted(set(_endpoints(slices, mine.get("name") or ""))))
        return found

    def _note(self, ingress: Obj, reason: str, message: str) -> None:
        self.notes.append(Note(ingress=name_of(ingress), reason=reason, message=message))


def _host(text: str) -> str:
    if text and (not _HOST.fullmatch(text) or len(text) > 253):
        raise Wrong(f"{text!r} is no host name")
    return text


def _path(item: Obj) -> tuple[str, bool]:
    """Path and whether it is a prefix. Written with %-escapes or not, it means what it is decoded to."""
    path, kind = str(item.get("path") or "/"), item.get("pathType")
    meant = unquote(path)
    if not _PATH.fullmatch(path) or not _PATH.fullmatch(meant.replace(" ", "")):
        raise Wrong(f"{path!r} is no path that can be served")
    if kind == "Exact":
        return meant, False
    return meant.rstrip("/"), True


def _endpoints(slices: Iterable[Obj], port: str) -> Iterator[str]:
    """Ready addresses with the port of that name: of IPv4, or of IPv6 where there are no others."""
    by_type: dict[str, list[str]] = {"IPv4": [], "IPv6": []}
    for one in slices:
        numbers = [p.get("port") for p in one.get("ports") or () if (p.get("name") or "") == port]
        for endpoint in one.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for text in endpoint.get("addresses") or ():
                for number in numbers:
                    if one.get("addressType") in by_type and isinstance(number, int):
                        address = ip_address(text)
                        shown = f"[{address}]" if address.version == 6 else str(address)
                        by_type[one["addressType"]].append(f"{shown}:{number}")
    yield from by_type["IPv4"] or by_type["IPv6"]
