"""The records that the API's objects promise, by the DNS specification of Kubernetes 1.1.0. Pure.

Written from the specification and apart from the server's own code (``controller.dns``), so that the one
can find a mistake of the other. A zone's SOA and NS, pods' own records and zonal names are not listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from controller.api.objects import Obj
from scenarios.probes.dns_ask import Answer

ZONE = "cluster.local"
VERSION = "1.1.0"
_TYPES = {"IPv4": "A", "IPv6": "AAAA"}


@dataclass(frozen=True, kw_only=True)
class Promise:
    """One question and what must be answered; ``at_least``: there may be more (an address of several)."""

    name: str
    type: str
    data: frozenset[str]
    because: str
    at_least: bool = False

    def kept(self, answer: Answer) -> bool:
        """SRV's priority and weight are the server's own affair."""
        said = frozenset(" ".join(d.split()[2:]) if self.type == "SRV" else d for d in answer.data)
        right = self.data <= said if self.at_least else self.data == said
        return answer.rcode == "NOERROR" and right


def promises(services: Iterable[Obj], slices: Iterable[Obj], zone: str = ZONE) -> Iterator[Promise]:
    """Every record of every Service, and the version of the specification."""
    held: dict[tuple[str, str], list[Obj]] = {}
    for one in slices:
        metadata = one["metadata"]
        service = (metadata.get("labels") or {}).get("kubernetes.io/service-name", "")
        held.setdefault((metadata["namespace"], service), []).append(one)
    yield Promise(
        name=f"dns-version.{zone}.", type="TXT", data=frozenset({VERSION}), because="the specification"
    )
    for service in services:
        at = (service["metadata"]["namespace"], service["metadata"]["name"])
        yield from _of(service, held.get(at, []), zone)


def _of(service: Obj, slices: list[Obj], zone: str) -> Iterator[Promise]:
    namespace, called = service["metadata"]["namespace"], service["metadata"]["name"]
    name, because = f"{called}.{namespace}.svc.{zone}.", f"Service {namespace}/{called}"
    spec: Mapping[str, Any] = service["spec"]

    def promise(at: str, type: str, data: Iterable[str], *, at_least: bool = False) -> Promise:
        return Promise(name=at, type=type, data=frozenset(data), because=because, at_least=at_least)

    if spec.get("type") == "ExternalName":
        yield promise(name, "CNAME", [spec["externalName"].rstrip(".") + "."])
    elif spec.get("clusterIP") == "None":
        yield from _headless(name, slices, promise)
    else:
        addresses = spec.get("clusterIPs") or [spec["clusterIP"]]
        for type in _TYPES.values():
            yield promise(name, type, (a for a in addresses if _type(a) == type))
        for address in addresses:
            yield promise(_reverse(address), "PTR", [name])
        for port in spec.get("ports") or ():
            if port.get("name"):
                at = f"_{port['name']}._{port.get('protocol', 'TCP').lower()}.{name}"
                yield promise(at, "SRV", [f"{port['port']} {name}"])


def _headless(name: str, slices: list[Obj], promise: Any) -> Iterator[Promise]:
    own: dict[str, set[str]] = {}
    ports: dict[str, set[str]] = {}
    for one in slices:
        for endpoint in one.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for address in endpoint["addresses"]:
                label = endpoint.get("hostname") or address.replace(".", "-").replace(":", "-")
                own.setdefault(f"{label}.{name}", set()).add(address)
                for port in one.get("ports") or ():
                    if port.get("name"):
                        at = f"_{port['name']}._{port.get('protocol', 'TCP').lower()}.{name}"
                        ports.setdefault(at, set()).add(f"{port['port']} {label}.{name}")
    for type in _TYPES.values():
        yield promise(name, type, (a for found in own.values() for a in found if _type(a) == type))
        for host, addresses in own.items():
            yield promise(host, type, (a for a in addresses if _type(a) == type))
    for host, addresses in own.items():
        for address in addresses:
            yield promise(_reverse(address), "PTR", [host], at_least=True)
    for at, found in ports.items():
        yield promise(at, "SRV", found)


def _type(address: str) -> str:
    return _TYPES[f"IPv{ip_address(address).version}"]


def _reverse(address: str) -> str:
    return ip_address(address).reverse_pointer + "."
