"""Kubernetes' rules about EndpointSlices, Endpoints and Events, in Kubernetes' words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from controller.api import rules_metadata as rules
from controller.api.objects import Obj
from controller.api.rules_service import PROTOCOLS
from controller.api.status import DUPLICATE, INVALID, REQUIRED, TOO_MANY, FieldError, unsupported

_ADDRESS_TYPES = ("IPv4", "IPv6", "FQDN")
_MAX_ENDPOINTS, _MAX_ADDRESSES, _MAX_PORTS = 1000, 100, 20000


def endpoint_slice(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    kind = obj.get("addressType")
    if not kind:
        yield FieldError("addressType", REQUIRED)
    elif kind not in _ADDRESS_TYPES:
        yield unsupported("addressType", kind, _ADDRESS_TYPES)
    elif old is not None and kind != old.get("addressType"):
        yield FieldError("addressType", INVALID, "field is immutable", kind)
    endpoints = obj.get("endpoints") or []
    if len(endpoints) > _MAX_ENDPOINTS:
        yield FieldError("endpoints", TOO_MANY, f"{len(endpoints)}: must have at most {_MAX_ENDPOINTS} items")
    for index, endpoint in enumerate(endpoints):
        path, addresses = f"endpoints[{index}].addresses", endpoint.get("addresses") or []
        if not addresses:
            yield FieldError(path, REQUIRED, "must contain at least 1 address")
        elif len(addresses) > _MAX_ADDRESSES:
            yield FieldError(path, TOO_MANY, f"{len(addresses)}: must have at most {_MAX_ADDRESSES} items")
        for at, text in enumerate(addresses):
            yield from _address(f"{path}[{at}]", text, str(kind))
    yield from _ports(obj.get("ports") or [], "ports")


def _address(path: str, text: str, kind: str) -> Iterator[FieldError]:
    if kind == "FQDN":
        yield from rules.is_valid(path, text, rules.dns_subdomain)
        return
    broken = rules.address(text)
    if broken or (kind in ("IPv4", "IPv6") and ip_address(text).version != int(kind[-1])):
        yield FieldError(path, INVALID, f"must be a valid {kind} address", text)
        return
    yield from rules.is_valid(path, text, rules.endpoint_address)


def _ports(ports: list[Obj], path: str) -> Iterator[FieldError]:
    if len(ports) > _MAX_PORTS:
        yield FieldError(path, TOO_MANY, f"{len(ports)}: must have at most {_MAX_PORTS} items")
    names: set[str] = set()
    for index, port in enumerate(ports):
        at, name = f"{path}[{index}]", port.get("name") or ""
        if name in names:
            yield FieldError(f"{at}.name", DUPLICATE, value=name)
        names.add(name)
        if name:
            yield from rules.is_valid(f"{at}.name", name, rules.dns_label)
        yield from rules.one_of(f"{at}.protocol", port.get("protocol"), PROTOCOLS)
        if port.get("port") is not None:
            yield from rules.is_valid(f"{at}.port", port["port"], rules.port_number)


def endpoints(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    for index, subset in enumerate(obj.get("subsets") or ()):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield FieldError(path, REQUIRED, "must specify `addresses` or `notReadyAddresses`")
        for word in ("addresses", "notReadyAddresses"):
            for at, address in enumerate(subset.get(word) or ()):
                given = address.get("ip") or ""
                yield from rules.is_valid(f"{path}.{word}[{at}].ip", given, rules.endpoint_address)
        yield from _ports(subset.get("ports") or [], f"{path}.ports")


def event(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    about, namespace = obj.get("involvedObject") or {}, obj["metadata"].get("namespace")
    if (about.get("namespace") or "default") != namespace:
        text = "does not match event.namespace"
        yield FieldError("involvedObject.namespace", INVALID, text, about.get("namespace") or "")
