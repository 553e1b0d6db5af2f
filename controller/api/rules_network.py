"""Kubernetes' rules about ServiceCIDRs and IPAddresses (KEP-1880), in Kubernetes' words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address as parse_address
from ipaddress import ip_network
from typing import Any

from controller.api.objects import Obj
from controller.api.status import INVALID, REQUIRED, TOO_MANY, FieldError


def service_cidr(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    spec: Mapping[str, Any] = obj.get("spec") or {}
    cidrs = spec.get("cidrs") or []
    if not cidrs:
        yield FieldError("spec.cidrs", REQUIRED, "at least one CIDR required")
    if len(cidrs) > 2:
        yield FieldError("spec.cidrs", TOO_MANY, f"{len(cidrs)}: must have at most 2 items")
    families = []
    for index, text in enumerate(cidrs):
        try:
            families.append(ip_network(text).version)
        except ValueError:
            wrong = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            yield FieldError(f"spec.cidrs[{index}]", INVALID, wrong, text)
    if len(families) == 2 and families[0] == families[1]:
        wrong = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        yield FieldError("spec.cidrs", INVALID, wrong, cidrs)
    if old is not None and cidrs[: len(_cidrs(old))] != _cidrs(old):
        yield FieldError("spec.cidrs", INVALID, "field is immutable", cidrs)


def _cidrs(obj: Obj) -> list[str]:
    return list((obj.get("spec") or {}).get("cidrs") or ())


def ip_address(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    """Its name is the address, in the one canonical spelling."""
    name = obj["metadata"]["name"]
    try:
        canonical = str(parse_address(name))
    except ValueError:
        canonical = ""
    if canonical != name:
        yield FieldError("metadata.name", INVALID, "must be a valid IP address in canonical form", name)
    spec: Mapping[str, Any] = obj.get("spec") or {}
    parent = spec.get("parentRef") or {}
    if not parent:
        yield FieldError("spec.parentRef", REQUIRED)
    else:
        for word in ("resource", "name"):
            if not parent.get(word):
                yield FieldError(f"spec.parentRef.{word}", REQUIRED)
    if old is not None and parent != ((old.get("spec") or {}).get("parentRef") or {}):
        yield FieldError("spec.parentRef", INVALID, "field is immutable", parent)
