"""Whom a host name means in a pod of a namespace: a Service, nobody, or somebody outside. Pure.

The search list of a pod (ndots:5), without asking anybody: what DNS would answer if it were asked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.api.objects import Obj

_OWN = frozenset({"localhost", "localhost.localdomain", "host.docker.internal"})
_NO_DOMAINS = frozenset({
    "yaml", "yml", "json", "xml", "conf", "cfg", "ini", "properties", "toml", "txt", "md", "sh", "py", "js",
    "ts", "go", "jar", "war", "class", "java", "html", "css", "log", "pem", "crt", "key", "sql", "db", "so",
    "png", "svg", "sock",
})  # fmt: skip
"""Last labels that make a dotted word a file rather than a host."""

Key = tuple[str, str]
"""(namespace, name) of a Service."""


@dataclass(frozen=True, kw_only=True)
class Meant:
    """``service``, or nobody's (``unknown``), or somebody ``outside``; none of them: no host at all.
    ``elsewhere``: namespaces in which there is a Service of that name."""

    service: Key | None = None
    unknown: bool = False
    outside: bool = False
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names that a set of Services (and Namespaces) makes."""

    services: Mapping[Key, Obj]
    namespaces: frozenset[str] = frozenset()
    addresses: Mapping[str, Key] = field(default_factory=dict)

    @classmethod
    def of(cls, services: Iterable[Obj], namespaces: Iterable[str]) -> Names:
        table = {(s["metadata"]["namespace"], s["metadata"]["name"]): s for s in services}
        addresses = {
            address: key
            for key, service in table.items()
            for address in (service["spec"].get("clusterIPs") or [service["spec"].get("clusterIP")])
            if address and address != "None"
        }
        spaces = frozenset({*namespaces, *(namespace for namespace, _ in table)})
        return cls(services=table, namespaces=spaces, addresses=addresses)

    def meant(self, host: str, namespace: str) -> Meant:
        """Whom a pod of ``namespace`` would reach by ``host``."""
        host = host.lower().rstrip(".")
        if host in _OWN:
            return Meant()
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return self._named(host.split("."), namespace)
        if str(address) in self.addresses:
            return Meant(service=self.addresses[str(address)])
        return Meant(outside=not (address.is_loopback or address.is_unspecified or address.is_multicast))

    def _named(self, labels: list[str], namespace: str) -> Meant:
        full = labels[-1] == "svc" or labels[-3:] == ["svc", "cluster", "local"]
        if full:
            inner = labels[: labels.index("svc", 1)] if "svc" in labels[1:] else []
            found = self._qualified(inner)
            return found or Meant(unknown=True, elsewhere=self._elsewhere(inner[-2:-1]))
        if len(labels) == 1:
            if (namespace, labels[0]) in self.services:
                return Meant(service=(namespace, labels[0]))
            return Meant(unknown=not labels[0].isdigit(), elsewhere=self._elsewhere(labels))
        found = self._qualified(labels) or self._of_a_pod(labels, namespace)
        if found:
            return found
        if len(labels) == 2 and labels[1] in self.namespaces:
            return Meant(unknown=True, elsewhere=self._elsewhere(labels[:1]))
        last = labels[-1]
        return Meant(outside=last.isalpha() and len(last) > 1 and last not in _NO_DOMAINS)

    def _qualified(self, labels: list[str]) -> Meant | None:
        """name.namespace, or a pod's host name before it."""
        if len(labels) < 2 or len(labels) > 3:
            return None
        key = (labels[-1], labels[-2])
        return Meant(service=key) if key in self.services else None

    def _of_a_pod(self, labels: list[str], namespace: str) -> Meant | None:
        """mongo-0.mongo: a pod of a headless Service of the same namespace."""
        service = self.services.get((namespace, labels[1]))
        if len(labels) == 2 and service is not None and service["spec"].get("clusterIP") == "None":
            return Meant(service=(namespace, labels[1]))
        return None

    def _elsewhere(self, labels: list[str]) -> tuple[str, ...]:
        return tuple(sorted(space for space, name in self.services if [name] == labels))
